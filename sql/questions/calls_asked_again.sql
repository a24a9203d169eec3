-- Calls that were sent more than once, and why.
-- Parameters: $run_name (null: all).
-- One row per call; failures maps each kind of failure (process_died: the process was killed) to its
-- attempts.
with kinds as (
    select
        call_key,
        coalesce(failure, state) as kind,
        count(*) as attempts,
        sum(coalesce(cost_usd, reserved_usd)) as spend_usd
    from api_attempts
    where $run_name::varchar is null or run_name = $run_name
    group by call_key, kind
),

repeated as (
    select
        call_key,
        sum(attempts)::bigint as attempts,
        map_from_entries(list((kind, attempts) order by kind) filter (where kind <> 'answered')) as failures,
        sum(spend_usd) as spend_usd
    from kinds
    group by call_key
    having sum(attempts) > 1
)

select
    api_calls.run_name,
    api_calls.step,
    api_calls.round,
    api_calls.ask,
    api_calls.purpose,
    api_calls.state,
    repeated.attempts,
    repeated.failures,
    repeated.spend_usd,
    repeated.call_key
from repeated
inner join api_calls on repeated.call_key = api_calls.call_key
order by
    repeated.attempts desc,
    api_calls.run_name asc,
    api_calls.step asc,
    api_calls.round asc,
    api_calls.ask asc,
    repeated.call_key asc
