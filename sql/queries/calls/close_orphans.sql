-- Attempts that a dead process had in flight are unknown and cost their reserve; a batch lives on without it.
-- Parameters: $process_host, $process_id, $process_started_at.
-- One row per attempt that was closed.
update api_attempts
set
    state = 'unknown',
    cost_usd = reserved_usd,
    failure = 'process_died',
    ended_at = now()
where
    state = 'in_flight'
    and process_host = $process_host
    and process_id = $process_id
    and process_started_at = $process_started_at
    and attempt not in (select batch_calls.attempt from batch_calls)
returning attempt
