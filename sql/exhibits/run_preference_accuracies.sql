-- How often the run's fitted preference models agree with people on held-out pairs.
-- Parameters: $run_name.
-- One row per reward model and subset, 'all' last.
-- The models are those that scored the run and those fitted together with them.
with scored as (
    select distinct reward_model from evaluated_rewards
    where run_name = $run_name
),

concerned as (
    select reward_model from scored
    union
    select preference_correlations.other_model
    from scored
    inner join preference_correlations on scored.reward_model = preference_correlations.reward_model
)

select
    preference_accuracies.reward_model,
    preference_accuracies.subset,
    preference_accuracies.pairs,
    preference_accuracies.accuracy
from preference_accuracies
semi join concerned on preference_accuracies.reward_model = concerned.reward_model
order by
    preference_accuracies.reward_model,
    preference_accuracies.subset = 'all',
    preference_accuracies.subset;
