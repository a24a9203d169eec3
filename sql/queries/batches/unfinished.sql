-- Batches of a run at an endpoint whose answers are not here yet.
-- Parameters: $run_name, $origin.
-- One row per batch, oldest first.
select
    batch,
    state,
    input_file_id,
    provider_batch_id,
    epoch(planned_at) as planned_at
from batches
where run_name = $run_name and origin = $origin and state in ('planned', 'uploaded', 'submitted')
order by planned_at, batch
