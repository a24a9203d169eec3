-- The ablations: mean reward after training with and without a part of the method (paper, Table 4).
-- Parameters: $reward_model (null: every reward model).
-- One row per profile, other settings, reward model, subset, objective, demonstrations (icl), rewrite and N
-- (rounds); subset 'all' is the average over all responses, the paper's Total. The paper's "w/o D2" is icl =
-- static, its "w/o ICL" icl = off. Means are over seeds, each seed's mean counting once; spreads are standard
-- deviations over seeds, null for one seed.
select
    varied_runs.profile,
    varied_runs.other_settings,
    varied_run_rewards.reward_model,
    varied_run_rewards.subset,
    varied_runs.objective,
    varied_runs.icl,
    varied_runs.rewrite,
    varied_runs.rounds,
    count(*) as seeds,
    sum(varied_run_rewards.responses)::bigint as responses,
    avg(varied_run_rewards.reward_after) as mean_reward,
    stddev_samp(varied_run_rewards.reward_after) as spread_of_reward,
    avg(varied_run_rewards.reward_after - varied_run_rewards.reward_before) as mean_gain,
    stddev_samp(varied_run_rewards.reward_after - varied_run_rewards.reward_before) as spread_of_gain,
    avg(varied_run_rewards.sigmoid_after_100) as sigmoid_mean_100,
    stddev_samp(varied_run_rewards.sigmoid_after_100) as spread_of_sigmoid_100
from varied_runs
inner join varied_run_rewards on varied_runs.run_name = varied_run_rewards.run_name
where $reward_model::varchar is null or varied_run_rewards.reward_model = $reward_model
group by
    varied_runs.profile,
    varied_runs.other_settings,
    varied_run_rewards.reward_model,
    varied_run_rewards.subset,
    varied_runs.objective,
    varied_runs.icl,
    varied_runs.rewrite,
    varied_runs.rounds
order by
    varied_runs.profile,
    varied_runs.other_settings,
    varied_run_rewards.reward_model,
    varied_run_rewards.subset,
    varied_runs.objective,
    varied_runs.icl,
    varied_runs.rewrite,
    varied_runs.rounds;
