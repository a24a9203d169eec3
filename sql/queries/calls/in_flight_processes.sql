-- Which processes have attempts in flight; those in a batch live on without their process.
-- One row per process.
select distinct
    process_host,
    process_id,
    process_started_at
from api_attempts
where
    state = 'in_flight'
    and attempt not in (select batch_calls.attempt from batch_calls)
