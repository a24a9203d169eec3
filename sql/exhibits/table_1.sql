-- Mean reward of every system under every reward model (paper, Table 1).
-- Parameters: $run_name (null: every run).
-- One row per run, reward model, subset and role; subset 'all' is the average over all responses, the paper's
-- Total. sigmoid_mean_100 is the mean of 100 * sigmoid(reward), the unit of the paper's table; prompts is the
-- size of the evaluation sample, responses is what was scored of it.
with sizes as (
    select
        run_samples.run_name,
        coalesce(prompts.subset, 'all') as subset,
        count(*) as prompts
    from run_samples
    inner join samples on run_samples.sample_digest = samples.sample_digest
    inner join prompts on samples.prompt_id = prompts.prompt_id
    where run_samples.purpose = 'evaluation'
    group by grouping sets ((run_samples.run_name, prompts.subset), (run_samples.run_name))
),

means as (
    select
        evaluated_generations.run_name,
        reward_scores.reward_model,
        coalesce(evaluated_generations.subset, 'all') as subset,
        evaluated_generations.role,
        evaluated_generations.system_id,
        count(*) as responses,
        avg(reward_scores.reward) as mean_reward,
        -- written so that neither tail overflows
        100 * avg(
            case
                when reward_scores.reward >= 0 then 1 / (1 + exp(-reward_scores.reward))
                else exp(reward_scores.reward) / (1 + exp(reward_scores.reward))
            end
        ) as sigmoid_mean_100
    from evaluated_generations
    inner join reward_scores on evaluated_generations.generation_id = reward_scores.generation_id
    where $run_name::varchar is null or evaluated_generations.run_name = $run_name
    group by
        grouping sets (
            (
                evaluated_generations.run_name,
                reward_scores.reward_model,
                evaluated_generations.role,
                evaluated_generations.system_id,
                evaluated_generations.subset
            ),
            (
                evaluated_generations.run_name,
                reward_scores.reward_model,
                evaluated_generations.role,
                evaluated_generations.system_id
            )
        )
)

select
    means.run_name,
    means.reward_model,
    means.subset,
    means.role,
    means.system_id,
    sizes.prompts,
    means.responses,
    means.mean_reward,
    means.sigmoid_mean_100
from means
inner join sizes on means.run_name = sizes.run_name and means.subset = sizes.subset
order by means.run_name, means.reward_model, means.subset, means.role;
