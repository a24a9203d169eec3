-- The names of all runs.
-- One row per run, oldest first.
select run_name
from runs
order by created_at, run_name
