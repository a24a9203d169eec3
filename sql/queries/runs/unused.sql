-- Whether nothing was computed or bought under a run's name.
-- Parameters: $run_name.
-- One row per call.
select
    not exists (select 1 from sampled_rounds where sampled_rounds.run_name = $run_name)
    and not exists (select 1 from optimizer_steps where optimizer_steps.run_name = $run_name)
    and not exists (select 1 from system_roles where system_roles.run_name = $run_name)
    and not exists (select 1 from attempts where attempts.run_name = $run_name) as unused
