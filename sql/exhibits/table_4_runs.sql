-- The values from which intervals over seeds are computed (paper, Table 4, Figure 5).
-- Parameters: $reward_model (null: every reward model).
-- One row per finished run of the cycle, reward model and subset; subset 'all' is the average over all
-- responses.
select
    profile,
    other_settings,
    reward_model,
    subset,
    objective,
    icl,
    rewrite,
    rounds,
    seed,
    run_name,
    responses,
    reward_before,
    reward_after,
    sigmoid_before_100,
    sigmoid_after_100
from ablation_rewards
where $reward_model::varchar is null or reward_model = $reward_model
order by profile, other_settings, reward_model, subset, objective, icl, rewrite, rounds, seed, run_name;
