-- What was spent, US dollars. An attempt whose cost is not known counts with its reserve, its worst case.
-- Parameters: $run_name (null: all).
-- One row per run, purpose and model.
select
    api_attempts.run_name,
    api_attempts.purpose,
    api_attempts.model,
    count(distinct api_attempts.call_key) as calls,
    count(*) as attempts,
    count(*) filter (where api_attempts.state = 'answered') as answered,
    count(*) filter (where api_attempts.state = 'failed') as failed,
    count(*) filter (where api_attempts.state in ('in_flight', 'unknown')) as of_unknown_cost,
    sum(coalesce(api_attempts.cost_usd, api_attempts.reserved_usd)) as spend_usd
from api_attempts
where $run_name::varchar is null or api_attempts.run_name = $run_name
group by api_attempts.run_name, api_attempts.purpose, api_attempts.model
order by spend_usd desc, api_attempts.run_name asc, api_attempts.purpose asc, api_attempts.model asc
