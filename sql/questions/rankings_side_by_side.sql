-- The two models' rankings of the same candidates, best first, and what they agree on.
-- Parameters: $run_name, $step (null: all).
-- One row per run, step and round.
with by_ranker as (
    select
        run_name,
        step,
        round,
        any_value(ranking) filter (where ranker = 'black_box') as black_box,
        any_value(ranking) filter (where ranker = 'white_box') as white_box
    from rankings
    where
        ($run_name::varchar is null or run_name = $run_name)
        and ($step::integer is null or step = $step::integer)
    group by run_name, step, round
)

select
    by_ranker.run_name,
    by_ranker.step,
    by_ranker.round,
    by_ranker.black_box,
    by_ranker.white_box,
    pseudo_labels.ranking as agreement,
    by_ranker.black_box = by_ranker.white_box as identical
from by_ranker
left join pseudo_labels
    on
        by_ranker.run_name = pseudo_labels.run_name
        and by_ranker.step = pseudo_labels.step
        and by_ranker.round = pseudo_labels.round
order by
    by_ranker.run_name,
    by_ranker.step,
    by_ranker.round
