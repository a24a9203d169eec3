-- How alike the run's reward models and the models fitted together with them judge held-out pairs.
-- Parameters: $run_name.
-- One row per reward model that scored the run and other model; 1 = the same witness, 0 = independent ones.
with scored as (
    select distinct reward_scores.reward_model
    from run_systems
    inner join generations
        on
            run_systems.system_id = generations.system_id
            and run_systems.generation_digest = generations.generation_digest
    inner join reward_scores on generations.generation_id = reward_scores.generation_id
    where run_systems.run_name = $run_name
)

select
    preference_correlations.reward_model,
    preference_correlations.other_model,
    preference_correlations.pairs,
    preference_correlations.correlation
from preference_correlations
inner join scored on preference_correlations.reward_model = scored.reward_model
order by preference_correlations.reward_model, preference_correlations.other_model;
