-- The calls in a batch.
-- Parameters: $batch.
-- One row per call, in the order of the plan.
select
    attempts.call_key,
    attempts.attempt,
    attempts.model,
    attempts.request,
    attempts.reserved_usd,
    outcomes.attempt is null as in_flight
from batch_calls
inner join attempts on batch_calls.attempt = attempts.attempt
left join outcomes on batch_calls.attempt = outcomes.attempt
where batch_calls.batch = $batch
order by attempts.started_at, attempts.call_key
