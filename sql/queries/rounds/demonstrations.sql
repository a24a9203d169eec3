-- The dynamic demonstrations that a run's pool admitted.
-- Parameters: $run_name, $before_step (null: all).
-- One row per dynamic demonstration, oldest first.
select
    demonstration,
    step,
    round,
    instruction as demonstration_instruction,
    responses as demonstration_responses,
    ranking as demonstration_ranking
from demonstrations
where
    run_name = $run_name
    and kind = 'dynamic'
    and ($before_step::integer is null or step < $before_step)
order by demonstration
