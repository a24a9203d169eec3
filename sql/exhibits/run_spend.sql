-- What a run asked for and paid. An attempt without a known cost counts with its reserve.
-- Parameters: $run_name.
-- One row per purpose and model.
-- reused_calls were answered before this run needed them and cost it nothing; tokens are those it paid for.
with paid as (
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
    select paid.call_key from paid
    union
    select rounds.call_key from rounds
    where rounds.run_name = $run_name and rounds.call_key is not null
),

asked as (
    select
        attempts.call_key,
        any_value(attempts.purpose) as purpose,
        any_value(attempts.model) as model
    from attempts
    semi join used on attempts.call_key = used.call_key
    group by attempts.call_key
),

answered as (
    select * from outcomes_of((select list(used.call_key) from used))
)

select
    asked.purpose,
    asked.model,
    count(*) as calls,
    count(*) filter (where paid.call_key is null) as reused_calls,
    coalesce(sum(paid.attempts), 0)::bigint as attempts,
    coalesce(sum(answered.reply.prompt_tokens) filter (where paid.answered), 0)::bigint as prompt_tokens,
    coalesce(
        sum(answered.reply.completion_tokens) filter (where paid.answered), 0
    )::bigint as completion_tokens,
    coalesce(sum(paid.cost_usd), 0)::double as cost_usd
from used
inner join asked on used.call_key = asked.call_key
left join answered on used.call_key = answered.call_key
left join paid on used.call_key = paid.call_key
group by asked.purpose, asked.model
order by asked.purpose, asked.model;
