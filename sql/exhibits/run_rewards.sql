-- Mean reward of every system a run compares, on the prompts of its evaluation sample (paper, Table 1).
-- Parameters: $run_name.
-- One row per reward model, subset and role; subset 'all' is the average over all responses.
-- sigmoid_mean_100 is the mean of 100 * sigmoid(reward), the scale of the paper's Table 1.
with evaluated as (
    select
        run_systems.role,
        prompts.subset,
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
    where run_systems.run_name = $run_name
)

select
    reward_scores.reward_model,
    coalesce(evaluated.subset, 'all') as subset,
    evaluated.role,
    count(*) as responses,
    avg(reward_scores.reward) as mean_reward,
    -- written so that neither tail overflows
    100 * avg(
        case
            when reward_scores.reward >= 0 then 1 / (1 + exp(-reward_scores.reward))
            else exp(reward_scores.reward) / (1 + exp(reward_scores.reward))
        end
    ) as sigmoid_mean_100
from evaluated
inner join reward_scores on evaluated.generation_id = reward_scores.generation_id
group by
    grouping sets (
        (reward_scores.reward_model, evaluated.role, evaluated.subset),
        (reward_scores.reward_model, evaluated.role)
    )
order by reward_scores.reward_model, subset, evaluated.role;
