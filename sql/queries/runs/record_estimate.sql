-- Keeps the estimate that was printed before the first paid call.
-- Parameters: $run_name, $estimate.
update runs
set
    estimate = $estimate,
    updated_at = now()
where run_name = $run_name
