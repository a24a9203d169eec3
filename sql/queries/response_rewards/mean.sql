-- The mean reward of the candidates of some steps of a run.
-- Parameters: $run_name, $reward_model, $first_step, $last_step (the first step that is left out).
-- One row per call; null where none is scored.
select avg(reward) as reward
from response_rewards
where
    run_name = $run_name
    and reward_model = $reward_model
    and step >= $first_step
    and step < $last_step
