-- Where the runs stand by their own account.
-- One row per run.
select
    run_name,
    state
from runs
order by run_name
