-- The same prompt before and after, with the rewards of one reward model (paper, Table 5).
-- Parameters: $run_name, $reward_model.
-- One row per prompt of the evaluation sample with a response before and after, largest gain first;
-- prompts without both rewards come last, with nulls.
with evaluated as (
    select
        run_systems.role,
        samples.prompt_id,
        generations.text,
        reward_scores.reward
    from run_systems
    inner join run_samples
        on run_systems.run_name = run_samples.run_name and run_samples.purpose = 'evaluation'
    inner join samples on run_samples.sample_digest = samples.sample_digest
    inner join generations
        on
            run_systems.system_id = generations.system_id
            and run_systems.generation_digest = generations.generation_digest
            and samples.prompt_id = generations.prompt_id
    left join reward_scores
        on
            generations.generation_id = reward_scores.generation_id
            and reward_scores.reward_model = $reward_model
    where run_systems.run_name = $run_name
)

select
    prompts.subset,
    prompts.prompt_id,
    prompts.instruction,
    earlier.text as text_before,
    later.text as text_after,
    earlier.reward as reward_before,
    later.reward as reward_after,
    later.reward - earlier.reward as gain
from evaluated as earlier
inner join evaluated as later on earlier.prompt_id = later.prompt_id
inner join prompts on earlier.prompt_id = prompts.prompt_id
where earlier.role = 'before' and later.role = 'after'
order by gain desc nulls last, prompts.prompt_id asc;
