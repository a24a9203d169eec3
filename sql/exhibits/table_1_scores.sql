-- The rewards from which the intervals and differences of Table 1 are computed (paper, Table 1).
-- Parameters: $run_name (null: every run).
-- One row per run, reward model, role and prompt of the evaluation sample that was scored.
select
    run_name,
    reward_model,
    role,
    subset,
    prompt_id,
    reward
from evaluated_rewards
where $run_name::varchar is null or run_name = $run_name
order by run_name, reward_model, role, position;
