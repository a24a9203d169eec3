-- Notes each candidate's rank in the black box's ranking, 0 = best.
-- Parameters: $run_name, $rows.
with rankings_of_rounds as (
    select unnest(cast($rows as struct(step integer, round integer, ranking integer[])[]), max_depth := 2)
),

ranks as (
    select
        step,
        round,
        unnest(ranking) as slot,
        generate_subscripts(ranking, 1) - 1 as black_box_rank
    from rankings_of_rounds
)

update responses
set black_box_rank = ranks.black_box_rank
from ranks
where
    responses.run_name = $run_name
    and responses.step = ranks.step
    and responses.round = ranks.round
    and responses.slot = ranks.slot
