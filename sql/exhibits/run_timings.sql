-- Where a run's time went, by phase.
-- Parameters: $run_name.
-- One row per phase, in the order in which a round goes through them; seconds.
-- The questions of a wave's round are asked at once: 'waiting' counts the longest of them. Phases of
-- different waves may overlap, so their sum is not the elapsed time.
-- 'evaluation' is the time that the compared responses took to generate, whichever run generated them.
with waits as (
    select max(rounds.waiting_seconds) as seconds
    from rounds
    where rounds.run_name = $run_name
    group by rounds.wave, rounds.round
),

totals as (
    select
        sum(rounds.sampling_seconds) as sampling,
        sum(rounds.scoring_seconds) as scoring,
        (select sum(waits.seconds) from waits) as waiting,
        sum(rounds.training_seconds) as training
    from rounds
    where rounds.run_name = $run_name
),

evaluation as (
    select sum(seconds) as evaluation from evaluated_generations
    where run_name = $run_name
),

phases as (
    select
        unnest(['sampling', 'scoring', 'waiting', 'training', 'evaluation']) as phase,
        unnest([
            totals.sampling, totals.scoring, totals.waiting, totals.training, evaluation.evaluation
        ]) as seconds,
        unnest(range(5)) as place
    from totals
    cross join evaluation
)

select
    phases.phase,
    coalesce(phases.seconds, 0) as seconds,
    coalesce(phases.seconds / nullif(sum(phases.seconds) over (), 0), 0) as share_of_sum
from phases
order by phases.place;
