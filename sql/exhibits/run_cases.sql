-- The same prompt before and after, with the rewards of one reward model (paper, Table 5).
-- Parameters: $run_name, $reward_model.
-- One row per prompt of the evaluation sample with a response before and after, largest gain first;
-- prompts without both rewards come last, with nulls.
with evaluated as (
    select
        evaluated_generations.role,
        evaluated_generations.prompt_id,
        evaluated_generations.text,
        reward_scores.reward
    from evaluated_generations
    left join reward_scores
        on
            evaluated_generations.generation_id = reward_scores.generation_id
            and reward_scores.reward_model = $reward_model
    where evaluated_generations.run_name = $run_name
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
