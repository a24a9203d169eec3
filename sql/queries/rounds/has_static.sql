-- Whether a run's static demonstration is recorded.
-- Parameters: $run_name.
-- One row per static demonstration of the run: one or none.
select demonstration
from demonstrations
where run_name = $run_name and kind = 'static'
