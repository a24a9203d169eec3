-- Average reward over the largest number of rounds N (paper, Figure 5).
-- Parameters: $reward_model (null: every reward model).
-- One row per profile, other settings, objective, demonstrations (icl), rewrite, reward model, subset and N;
-- subset 'all' is the average over all responses. rounds_per_step is how many were needed: a step ends when
-- both rankings agree. Means are over seeds, each seed's mean counting once; spreads are standard deviations
-- over seeds, null for one seed.
with needed as (
    select
        run_name,
        count(*) / count(distinct step) as rounds_per_step
    from rounds
    group by run_name
)

select
    ablation_rewards.profile,
    ablation_rewards.other_settings,
    ablation_rewards.objective,
    ablation_rewards.icl,
    ablation_rewards.rewrite,
    ablation_rewards.reward_model,
    ablation_rewards.subset,
    ablation_rewards.rounds,
    count(*) as seeds,
    avg(needed.rounds_per_step) as rounds_per_step,
    avg(ablation_rewards.reward_after) as mean_reward,
    stddev_samp(ablation_rewards.reward_after) as spread_of_reward,
    avg(ablation_rewards.sigmoid_after_100) as sigmoid_mean_100,
    stddev_samp(ablation_rewards.sigmoid_after_100) as spread_of_sigmoid_100
from ablation_rewards
inner join needed on ablation_rewards.run_name = needed.run_name
where $reward_model::varchar is null or ablation_rewards.reward_model = $reward_model
group by all
order by all;
