-- The paired rewards from which the intervals of the reward table are computed.
-- Parameters: $run_name.
-- One row per reward model and prompt of the evaluation sample that was scored before and after.
with evaluated as (
    select
        run_systems.role,
        prompts.subset,
        samples.prompt_id,
        samples.position,
        generations.generation_id
    from run_systems
    inner join run_samples
        on run_systems.run_name = run_samples.run_name and run_samples.purpose = 'evaluation'
    inner join samples on run_samples.sample_digest = samples.sample_digest
    inner join prompts on samples.prompt_id = prompts.prompt_id
    inner join generations
        on
            run_systems.system_id = generations.system_id
            and run_systems.generation_digest = generations.generation_digest
            and samples.prompt_id = generations.prompt_id
    where run_systems.run_name = $run_name and run_systems.role in ('before', 'after')
)

select
    reward_scores.reward_model,
    evaluated.subset,
    evaluated.prompt_id,
    any_value(reward_scores.reward) filter (where evaluated.role = 'before') as reward_before,
    any_value(reward_scores.reward) filter (where evaluated.role = 'after') as reward_after
from evaluated
inner join reward_scores on evaluated.generation_id = reward_scores.generation_id
group by reward_scores.reward_model, evaluated.subset, evaluated.prompt_id, evaluated.position
having count(*) = 2
order by reward_scores.reward_model, evaluated.position;
