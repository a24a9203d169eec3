-- How far the two rankings agree while the run proceeds.
-- Parameters: $run_name, $bins (the run's steps are cut into this many bins of equal width).
-- One row per bin of steps that has a ranked round.
-- agreement is the mean length of the agreement ranking over the number of candidates. Kendall's tau of a
-- round is the mean over its pairs of candidates of +1 (same order) or -1 (reversed). Steps that agree stop
-- early, so means over rounds lean towards prompts that do not: the first rounds alone do not.
with taus as (
    select
        one.step,
        one.round,
        avg(
            sign((one.black_box_rank - other.black_box_rank) * (one.white_box_rank - other.white_box_rank))
        ) as tau
    from responses as one
    inner join responses as other
        on
            one.run_name = other.run_name
            and one.step = other.step
            and one.round = other.round
            and one.slot < other.slot
            and one.kind = other.kind
    where one.run_name = $run_name and one.kind = 'candidate'
    group by one.step, one.round
),

ranked as (
    select
        rounds.step,
        rounds.round,
        rounds.step * least($bins, runs.steps) // runs.steps as bin,
        rounds.agreement_length / len(black_box.ranking) as agreement,
        (black_box.ranking = white_box.ranking)::integer as identical,
        taus.tau
    from rounds
    inner join runs on rounds.run_name = runs.run_name
    inner join rankings as black_box
        on
            rounds.run_name = black_box.run_name
            and rounds.step = black_box.step
            and rounds.round = black_box.round
            and black_box.ranker = 'black_box'
    inner join rankings as white_box
        on
            rounds.run_name = white_box.run_name
            and rounds.step = white_box.step
            and rounds.round = white_box.round
            and white_box.ranker = 'white_box'
    inner join taus on rounds.step = taus.step and rounds.round = taus.round
    where rounds.run_name = $run_name and rounds.agreement_length is not null
)

select
    min(step) as first_step,
    max(step) as last_step,
    count(*) as rounds,
    count(*) / count(distinct step) as rounds_per_step,
    avg(agreement) as agreement,
    avg(agreement) filter (where round = 1) as first_round_agreement,
    avg(identical) as identical_share,
    avg(identical) filter (where round = 1) as first_round_identical_share,
    avg(tau) as kendall_tau,
    avg(tau) filter (where round = 1) as first_round_kendall_tau,
    (1 + avg(tau)) / 2 as pairwise_agreement
from ranked
group by bin
order by first_step;
