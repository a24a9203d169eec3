-- What was spent on each day, US dollars; days are those of UTC.
-- An attempt whose cost is not known counts with its reserve.
-- Parameters: $run_name (null: all).
-- One row per run, day, purpose and model, oldest day first.
select
    api_attempts.run_name,
    timezone('UTC', api_attempts.started_at)::date as day_utc,
    api_attempts.purpose,
    api_attempts.model,
    count(distinct api_attempts.call_key) as calls,
    count(*) as attempts,
    sum(coalesce(api_attempts.cost_usd, api_attempts.reserved_usd)) as spend_usd
from api_attempts
where $run_name::varchar is null or api_attempts.run_name = $run_name
group by api_attempts.run_name, day_utc, api_attempts.purpose, api_attempts.model
order by day_utc asc, api_attempts.run_name asc, api_attempts.purpose asc, api_attempts.model asc
