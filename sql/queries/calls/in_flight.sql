-- The attempts of a run that have no outcome and are in no batch.
-- Parameters: $run_name.
-- One row per attempt.
select
    attempts.attempt,
    attempts.call_key,
    attempts.reserved_usd
from attempts
where
    attempts.run_name = $run_name
    and attempts.attempt not in (select outcomes.attempt from outcomes where outcomes.run_name = $run_name)
    and attempts.attempt not in (select batch_calls.attempt from batch_calls)
order by attempts.started_at
