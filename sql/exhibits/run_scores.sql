-- The paired rewards from which the intervals of the reward table are computed.
-- Parameters: $run_name.
-- One row per reward model and prompt of the evaluation sample that was scored before and after.
select
    reward_model,
    subset,
    prompt_id,
    any_value(reward) filter (where role = 'before') as reward_before,
    any_value(reward) filter (where role = 'after') as reward_after
from evaluated_rewards
where run_name = $run_name and role in ('before', 'after')
group by reward_model, subset, prompt_id, position
having count(*) = 2
order by reward_model, position;
