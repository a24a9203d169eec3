-- Notes how a process left a run: paused, complete or failed.
-- Parameters: $run_name, $state, $reason.
update runs
set
    state = $state,
    state_reason = $reason,
    process_host = null,
    process_id = null,
    process_started_at = null,
    finished_at = case when $state = 'complete' then now() end,
    updated_at = now()
where run_name = $run_name
