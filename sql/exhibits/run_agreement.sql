-- How far the two rankings agree while the run proceeds.
-- Parameters: $run_name, $bins (the run's steps are cut into this many bins of equal width).
-- One row per bin of steps that has a ranked round.
-- agreement is the mean length of the agreement ranking over the number of candidates. Steps that agree
-- stop early, so means over rounds lean towards prompts that do not: the first rounds alone do not.
with candidates as (
    select
        responses.step,
        responses.round,
        count(*) as candidates
    from responses
    where responses.run_name = $run_name and responses.kind = 'candidate'
    group by responses.step, responses.round
),

identical as (
    select
        rankings.step,
        rankings.round,
        count(distinct rankings.ranking) = 1 as identical
    from rankings
    where rankings.run_name = $run_name
    group by rankings.step, rankings.round
    having count(*) = 2
),

ranked as (
    select
        rounds.step,
        rounds.round,
        rounds.step * least($bins, runs.steps) // runs.steps as bin,
        rounds.agreement_length / candidates.candidates as agreement,
        identical.identical
    from rounds
    inner join runs on rounds.run_name = runs.run_name
    inner join candidates on rounds.step = candidates.step and rounds.round = candidates.round
    inner join identical on rounds.step = identical.step and rounds.round = identical.round
    where rounds.run_name = $run_name and rounds.agreement_length is not null
)

select
    min(ranked.step) as first_step,
    max(ranked.step) as last_step,
    count(*) as rounds,
    count(*) / count(distinct ranked.step) as rounds_per_step,
    avg(ranked.agreement) as agreement,
    avg(ranked.agreement) filter (where ranked.round = 1) as first_round_agreement,
    avg(ranked.identical::integer) as identical_share,
    avg(ranked.identical::integer) filter (where ranked.round = 1) as first_round_identical_share
from ranked
group by ranked.bin
order by first_step;
