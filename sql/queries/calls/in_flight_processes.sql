-- Which processes have attempts in flight.
-- One row per process.
select distinct
    process_host,
    process_id,
    process_started_at
from api_attempts
where state = 'in_flight'
