-- A run that ended before anything was computed or bought under its name, which is free again.
-- Parameters: $run_name.
delete from runs
where
    run_name = $run_name
    and state in ('failed', 'paused')
    and not exists (select 1 from rounds where rounds.run_name = $run_name)
    and not exists (select 1 from optimizer_steps where optimizer_steps.run_name = $run_name)
    and not exists (select 1 from run_systems where run_systems.run_name = $run_name)
    and not exists (select 1 from api_attempts where api_attempts.run_name = $run_name)
