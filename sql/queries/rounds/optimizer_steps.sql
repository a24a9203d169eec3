-- How many optimizer steps the rounds of a run took.
-- Parameters: $run_name.
-- One row per call.
select coalesce(max(optimizer_step) + 1, 0)::integer as optimizer_steps
from trained_rounds
where run_name = $run_name
