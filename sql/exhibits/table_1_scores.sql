-- The rewards from which the intervals and differences of Table 1 are computed (paper, Table 1).
-- Parameters: $run_name (null: every run).
-- One row per run, reward model, role and prompt of the evaluation sample that was scored.
select
    evaluated_generations.run_name,
    reward_scores.reward_model,
    evaluated_generations.role,
    evaluated_generations.subset,
    evaluated_generations.prompt_id,
    reward_scores.reward
from evaluated_generations
inner join reward_scores on evaluated_generations.generation_id = reward_scores.generation_id
where $run_name::varchar is null or evaluated_generations.run_name = $run_name
order by
    evaluated_generations.run_name,
    reward_scores.reward_model,
    evaluated_generations.role,
    evaluated_generations.position;
