-- Runs that have not come to their end.
-- One row per run.
select
    run_name,
    state
from runs
where state <> 'complete'
order by run_name
