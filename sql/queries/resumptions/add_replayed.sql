-- A turn of recorded rounds was trained on again.
-- Parameters: $run_name, $resumption, $rounds, $optimizer_steps, $seconds.
update resumptions
set
    rounds_replayed = rounds_replayed + $rounds,
    optimizer_steps_replayed = optimizer_steps_replayed + $optimizer_steps,
    seconds_replaying = seconds_replaying + $seconds
where run_name = $run_name and resumption = $resumption
