-- Commits an attempt with its worst case before it is sent.
-- Parameters: $call_key, $run_name, $reserved_usd, $process_host, $process_id, $process_started_at.
-- One row per attempt: the number it got.
insert into api_attempts (
    call_key, run_name, state, reserved_usd, process_host, process_id, process_started_at, started_at
)
values (
    $call_key, $run_name, 'in_flight', $reserved_usd, $process_host, $process_id, $process_started_at, now()
)
returning attempt
