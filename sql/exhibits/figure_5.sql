-- Average reward over the largest number of rounds N (paper, Figure 5).
-- Parameters: $reward_model (null: every reward model).
-- One row per profile, other settings, objective, demonstrations (icl), rewrite, reward model, subset and N;
-- subset 'all' is the average over all responses. rounds_per_step is how many were needed: a step ends when
-- both rankings agree. Means are over seeds, each seed's mean counting once; spreads are standard deviations
-- over seeds, null for one seed.
with needed as (
    select
        rounds.run_name,
        count(*) / count(distinct rounds.step) as rounds_per_step
    from rounds
    inner join varied_runs on rounds.run_name = varied_runs.run_name
    group by rounds.run_name
)

select
    varied_runs.profile,
    varied_runs.other_settings,
    varied_runs.objective,
    varied_runs.icl,
    varied_runs.rewrite,
    varied_run_rewards.reward_model,
    varied_run_rewards.subset,
    varied_runs.rounds,
    count(*) as seeds,
    avg(needed.rounds_per_step) as rounds_per_step,
    avg(varied_run_rewards.reward_after) as mean_reward,
    stddev_samp(varied_run_rewards.reward_after) as spread_of_reward,
    avg(varied_run_rewards.sigmoid_after_100) as sigmoid_mean_100,
    stddev_samp(varied_run_rewards.sigmoid_after_100) as spread_of_sigmoid_100
from varied_runs
inner join needed on varied_runs.run_name = needed.run_name
inner join varied_run_rewards on varied_runs.run_name = varied_run_rewards.run_name
where $reward_model::varchar is null or varied_run_rewards.reward_model = $reward_model
group by
    varied_runs.profile,
    varied_runs.other_settings,
    varied_runs.objective,
    varied_runs.icl,
    varied_runs.rewrite,
    varied_run_rewards.reward_model,
    varied_run_rewards.subset,
    varied_runs.rounds
order by
    varied_runs.profile,
    varied_runs.other_settings,
    varied_runs.objective,
    varied_runs.icl,
    varied_runs.rewrite,
    varied_run_rewards.reward_model,
    varied_run_rewards.subset,
    varied_runs.rounds;
