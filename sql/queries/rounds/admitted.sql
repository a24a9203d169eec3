-- The dynamic demonstrations that a run's pool admitted.
-- Parameters: $run_name, $before_step.
-- One row per demonstration, oldest first.
select unnest(admitted)
from ranked_rounds
where run_name = $run_name and admitted is not null and step < $before_step
order by admitted.number
