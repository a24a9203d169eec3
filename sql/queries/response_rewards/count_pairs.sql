-- Counts the pairs of candidates that reward models tell apart in steps of a run.
-- Parameters: $run_name, $first_step, $last_step (both included).
insert into counted_pairs by name
select *
from ranked_pairs
where run_name = $run_name and step between $first_step and $last_step
