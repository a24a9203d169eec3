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
    group by run_samples.run_name, rollup (prompts.subset)
),

means as (
    select
        run_name,
        reward_model,
        coalesce(subset, 'all') as subset,
        role,
        system_id,
        count(*) as responses,
        avg(reward) as mean_reward,
        avg(sigmoid_100) as sigmoid_mean_100
    from evaluated_rewards
    where $run_name::varchar is null or run_name = $run_name
    group by run_name, reward_model, role, system_id, rollup (subset)
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
