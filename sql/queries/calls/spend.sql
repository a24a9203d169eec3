-- What a run has spent, US dollars: settled costs, and the reserve of every attempt whose cost is not known.
-- Parameters: $run_name.
-- One row per call.
select coalesce(sum(coalesce(outcomes.cost_usd, attempts.reserved_usd)), 0)::decimal(18, 9) as spend_usd
from attempts
left join outcomes on attempts.attempt = outcomes.attempt
where attempts.run_name = $run_name
