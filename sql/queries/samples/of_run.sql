-- The sample that a run uses for a purpose.
-- Parameters: $run_name, $purpose.
-- One row per run and purpose: one or none.
select sample_digest
from run_samples
where run_name = $run_name and purpose = $purpose
