-- The candidates of some steps of a run that a reward model has not scored yet, in the order of their rounds.
-- Parameters: $run_name, $reward_model, $first_step, $last_step (the first step that is left out).
-- One row per step, round and slot
select
    responses.step,
    responses.round,
    responses.slot,
    responses.text
from responses
left join response_rewards
    on
        responses.run_name = response_rewards.run_name
        and responses.step = response_rewards.step
        and responses.round = response_rewards.round
        and responses.slot = response_rewards.slot
        and response_rewards.reward_model = $reward_model
where
    responses.run_name = $run_name
    and responses.step >= $first_step
    and responses.step < $last_step
    and responses.kind = 'candidate'
    and response_rewards.reward is null
order by responses.step, responses.round, responses.slot
