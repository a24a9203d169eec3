-- How often the run's fitted preference models agree with people on held-out pairs.
-- Parameters: $run_name.
-- One row per reward model and subset, 'all' last.
-- The models are those that scored the run and those fitted together with them.
with scored as (
    select distinct reward_scores.reward_model
    from run_systems
    inner join generations
        on
            run_systems.system_id = generations.system_id
            and run_systems.generation_digest = generations.generation_digest
    inner join reward_scores on generations.generation_id = reward_scores.generation_id
    where run_systems.run_name = $run_name
),

concerned as (
    select scored.reward_model from scored
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
inner join concerned on preference_accuracies.reward_model = concerned.reward_model
order by
    preference_accuracies.reward_model,
    preference_accuracies.subset = 'all',
    preference_accuracies.subset;
