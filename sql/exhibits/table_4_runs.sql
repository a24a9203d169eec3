-- The values from which intervals over seeds are computed (paper, Table 4, Figure 5).
-- Parameters: $reward_model (null: every reward model).
-- One row per finished run of the cycle, reward model and subset; subset 'all' is the average over all
-- responses.
select
    varied_runs.profile,
    varied_runs.other_settings,
    varied_run_rewards.reward_model,
    varied_run_rewards.subset,
    varied_runs.objective,
    varied_runs.icl,
    varied_runs.rewrite,
    varied_runs.rounds,
    varied_runs.seed,
    varied_runs.run_name,
    varied_run_rewards.responses,
    varied_run_rewards.reward_before,
    varied_run_rewards.reward_after,
    varied_run_rewards.sigmoid_before_100,
    varied_run_rewards.sigmoid_after_100
from varied_runs
inner join varied_run_rewards on varied_runs.run_name = varied_run_rewards.run_name
where $reward_model::varchar is null or varied_run_rewards.reward_model = $reward_model
order by
    varied_runs.profile,
    varied_runs.other_settings,
    varied_run_rewards.reward_model,
    varied_run_rewards.subset,
    varied_runs.objective,
    varied_runs.icl,
    varied_runs.rewrite,
    varied_runs.rounds,
    varied_runs.seed,
    varied_runs.run_name;
