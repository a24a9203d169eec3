-- What a run asked for and paid. An attempt without a known cost counts with its reserve.
-- Parameters: $run_name.
-- One row per purpose and model.
-- reused_calls were answered before this run needed them and cost it nothing; tokens are those it paid for.
with attempts as (
    select
        api_attempts.call_key,
        count(*) as attempts,
        bool_or(api_attempts.state = 'answered') as answered,
        sum(coalesce(api_attempts.cost_usd, api_attempts.reserved_usd)) as cost_usd
    from api_attempts
    where api_attempts.run_name = $run_name
    group by api_attempts.call_key
),

used as (
    select attempts.call_key from attempts
    union
    select rounds.call_key from rounds
    where rounds.run_name = $run_name and rounds.call_key is not null
)

select
    api_calls.purpose,
    api_calls.model,
    count(*) as calls,
    count(*) filter (where attempts.call_key is null) as reused_calls,
    coalesce(sum(attempts.attempts), 0)::bigint as attempts,
    coalesce(sum(api_calls.prompt_tokens) filter (where attempts.answered), 0)::bigint as prompt_tokens,
    coalesce(
        sum(api_calls.completion_tokens) filter (where attempts.answered), 0
    )::bigint as completion_tokens,
    coalesce(sum(attempts.cost_usd), 0)::double as cost_usd
from used
inner join api_calls on used.call_key = api_calls.call_key
left join attempts on used.call_key = attempts.call_key
group by api_calls.purpose, api_calls.model
order by api_calls.purpose, api_calls.model;
