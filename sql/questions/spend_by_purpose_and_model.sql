-- What was spent, US dollars. An attempt whose cost is not known counts with its reserve, its worst case.
-- Parameters: $run_name (null: all).
-- One row per run, purpose and model.
select
    api_attempts.run_name,
    api_calls.purpose,
    api_calls.model,
    count(distinct api_attempts.call_key) as calls,
    count(*) as attempts,
    count(*) filter (where api_attempts.state = 'answered') as answered,
    count(*) filter (where api_attempts.state = 'failed') as failed,
    count(*) filter (where api_attempts.state in ('in_flight', 'unknown')) as of_unknown_cost,
    sum(coalesce(api_attempts.cost_usd, api_attempts.reserved_usd)) as spend_usd
from api_attempts
inner join api_calls on api_attempts.call_key = api_calls.call_key
where $run_name::varchar is null or api_attempts.run_name = $run_name
group by api_attempts.run_name, api_calls.purpose, api_calls.model
order by spend_usd desc, api_attempts.run_name asc, api_calls.purpose asc, api_calls.model asc
