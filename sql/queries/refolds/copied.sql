-- How many rounds of its source a refold has.
-- Parameters: $run_name.
-- One row per call.
select count(*) as rounds
from rounds
where run_name = $run_name
