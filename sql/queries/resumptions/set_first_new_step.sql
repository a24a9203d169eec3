-- The first turn that was not replayed is done.
-- Parameters: $run_name, $resumption, $step.
update resumptions
set first_new_step = $step
where run_name = $run_name and resumption = $resumption
