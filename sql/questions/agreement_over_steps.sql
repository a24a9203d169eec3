-- How far the two models agree as a run goes on, in groups of 25 steps.
-- Parameters: $run_name (null: all).
-- One row per run and group of steps; identical is the share of ranked rounds with the same two rankings.
with rankings_of_rounds as (
    select
        run_name,
        step,
        round,
        any_value(ranking) filter (where ranker = 'black_box') as black_box,
        any_value(ranking) filter (where ranker = 'white_box') as white_box
    from rankings
    where $run_name::varchar is null or run_name = $run_name
    group by run_name, step, round
)

select
    rounds.run_name,
    (rounds.step // 25) * 25 as first_step,
    count(*) as ranked_rounds,
    avg(rounds.agreement_length) as agreement_length,
    avg(rounds.agreement_length / len(rankings_of_rounds.white_box)) as agreement_share,
    avg((rankings_of_rounds.black_box = rankings_of_rounds.white_box)::integer) as identical
from rounds
inner join rankings_of_rounds
    on
        rounds.run_name = rankings_of_rounds.run_name
        and rounds.step = rankings_of_rounds.step
        and rounds.round = rankings_of_rounds.round
where rounds.agreement_length is not null
group by rounds.run_name, first_step
order by rounds.run_name, first_step
