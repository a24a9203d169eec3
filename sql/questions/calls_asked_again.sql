-- Calls that were sent more than once, and why.
-- Parameters: $run_name (null: all).
-- One row per call; failures maps each kind of failure (process_died: the process was killed) to its
-- attempts.
with repeated as (
    select
        call_key,
        count(*) as attempts
    from attempts
    where $run_name::varchar is null or run_name = $run_name
    group by call_key
    having count(*) > 1
),

kinds as (
    select
        api_attempts.call_key,
        coalesce(api_attempts.failure, api_attempts.state) as kind,
        count(*) as attempts,
        sum(coalesce(api_attempts.cost_usd, api_attempts.reserved_usd)) as spend_usd
    from api_attempts
    semi join repeated on api_attempts.call_key = repeated.call_key
    where $run_name::varchar is null or api_attempts.run_name = $run_name
    group by api_attempts.call_key, kind
),

summed as (
    select
        call_key,
        sum(attempts)::bigint as attempts,
        map_from_entries(list((kind, attempts) order by kind) filter (where kind <> 'answered')) as failures,
        sum(spend_usd) as spend_usd
    from kinds
    group by call_key
),

asked as (
    select attempts.*
    from attempts
    semi join repeated on attempts.call_key = repeated.call_key
    qualify row_number() over (partition by attempts.call_key order by attempts.started_at) = 1
),

settled as (
    select
        outcomes.call_key,
        min_by(outcomes.state, outcomes.state <> 'answered') as state
    from standing_outcomes as outcomes
    semi join repeated on outcomes.call_key = repeated.call_key
    group by outcomes.call_key
)

select
    asked.run_name,
    asked.step,
    asked.round,
    asked.ask,
    asked.purpose,
    coalesce(settled.state, 'open') as state,
    summed.attempts,
    summed.failures,
    summed.spend_usd,
    summed.call_key
from summed
inner join asked on summed.call_key = asked.call_key
left join settled on summed.call_key = settled.call_key
order by
    summed.attempts desc,
    asked.run_name asc,
    asked.step asc,
    asked.round asc,
    asked.ask asc,
    summed.call_key asc
