-- The runs of the other ledger.
-- One row per run.
select run_name
from other.runs
order by run_name
