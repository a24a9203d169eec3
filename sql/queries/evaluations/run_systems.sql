-- The systems that a run's evaluation compares.
-- Parameters: $run_name.
-- One row per role.
select
    role,
    system_id,
    generation_digest
from run_systems
where run_name = $run_name
order by role
