-- The calls in a batch.
-- Parameters: $batch.
-- One row per call.
select
    batch_calls.call_key,
    batch_calls.attempt,
    api_calls.model,
    api_calls.request,
    api_attempts.reserved_usd,
    api_attempts.state = 'in_flight' as in_flight
from batch_calls
inner join api_calls on batch_calls.call_key = api_calls.call_key
inner join api_attempts on batch_calls.attempt = api_attempts.attempt
where batch_calls.batch = $batch
order by batch_calls.attempt
