-- Gives a run the rewards of another one's candidates: a text that was scored is not scored again.
-- Parameters: $source_run, $run_name, $steps (element i: the new step of the source's step i).
insert into response_rewards by name
select
    $run_name::varchar as run_name,
    list_extract($steps::integer[], step + 1) as step,
    round,
    slot,
    reward_model,
    reward
from response_rewards
where run_name = $source_run
