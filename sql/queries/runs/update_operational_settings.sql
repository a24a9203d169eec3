-- Operational settings may change between resumptions; the last ones stand.
-- Parameters: $run_name, $operational_settings.
update runs
set
    operational_settings = $operational_settings,
    updated_at = now()
where run_name = $run_name
