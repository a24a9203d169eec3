-- Drops what was counted of steps of a run, which is about to be counted anew.
-- Parameters: $run_name, $first_step, $last_step (both included).
delete from counted_pairs
where run_name = $run_name and step between $first_step and $last_step
