-- Notes the process that runs a run.
-- Parameters: $run_name, $process_host, $process_id, $process_started_at.
update runs
set
    state = 'running',
    state_reason = null,
    process_host = $process_host,
    process_id = $process_id,
    process_started_at = $process_started_at,
    finished_at = null,
    updated_at = now()
where run_name = $run_name
