-- How alike the run's reward models and the models fitted together with them judge held-out pairs.
-- Parameters: $run_name.
-- One row per reward model that scored the run and other model; 1 = the same witness, 0 = independent ones.
select
    preference_correlations.reward_model,
    preference_correlations.other_model,
    preference_correlations.pairs,
    preference_correlations.correlation
from preference_correlations
semi join evaluated_rewards
    on
        preference_correlations.reward_model = evaluated_rewards.reward_model
        and evaluated_rewards.run_name = $run_name
order by preference_correlations.reward_model, preference_correlations.other_model;
