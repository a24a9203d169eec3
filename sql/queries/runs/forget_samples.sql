-- The samples of a run that is no more.
-- Parameters: $run_name.
delete from run_samples
where
    run_name = $run_name
    and not exists (select 1 from runs where runs.run_name = $run_name)
