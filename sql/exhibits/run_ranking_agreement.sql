-- How often black box and white box order two candidates alike while the run proceeds.
-- Parameters: $run_name, $bins (the run's steps are cut into this many bins of equal width).
-- One row per bin of steps that has a ranked round.
-- Kendall's tau of a round is the mean over its pairs of candidates of +1 (same order) or -1 (reversed).
with pairs as (
    select
        one.step,
        one.round,
        sign(
            (one.black_box_rank - other.black_box_rank) * (one.white_box_rank - other.white_box_rank)
        ) as concord
    from responses as one
    inner join responses as other
        on
            one.run_name = other.run_name
            and one.step = other.step
            and one.round = other.round
            and one.slot < other.slot
    where
        one.run_name = $run_name
        and one.kind = 'candidate'
        and other.kind = 'candidate'
        and one.black_box_rank is not null
        and one.white_box_rank is not null
        and other.black_box_rank is not null
        and other.white_box_rank is not null
),

taus as (
    select
        pairs.step,
        pairs.round,
        avg(pairs.concord) as tau
    from pairs
    group by pairs.step, pairs.round
)

select
    min(taus.step) as first_step,
    max(taus.step) as last_step,
    count(*) as rounds,
    avg(taus.tau) as kendall_tau,
    avg(taus.tau) filter (where taus.round = 1) as first_round_kendall_tau,
    (1 + avg(taus.tau)) / 2 as pairwise_agreement
from taus
inner join runs on runs.run_name = $run_name
group by taus.step * least($bins, runs.steps) // runs.steps
order by first_step;
