-- What a call came to: its first answer, where there is none the last other outcome.
-- Parameters: $call_key.
-- One row per call of that key: one or none.
select
    outcomes.attempt,
    outcomes.call_key,
    outcomes.run_name,
    outcomes.state,
    outcomes.reply,
    outcomes.cost_usd,
    outcomes.failure
from standing_outcomes as outcomes
where outcomes.call_key = $call_key
order by
    outcomes.state <> 'answered',
    case when outcomes.state = 'answered' then outcomes.ended_at end,
    outcomes.ended_at desc
limit 1
