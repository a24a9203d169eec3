-- The candidates of a run's rounds.
-- Parameters: $run_name.
-- One row per step, round and slot, in order.
select
    step,
    round,
    slot,
    text,
    ended
from responses
where run_name = $run_name and kind = 'candidate'
order by step, round, slot
