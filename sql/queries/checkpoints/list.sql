-- The checkpoints of a run, whether their files still exist or not.
-- Parameters: $run_name.
-- One row per checkpoint, newest first.
select
    step,
    optimizer_steps,
    path,
    weights_sha256,
    size_bytes
from checkpoints
where run_name = $run_name
order by step desc
