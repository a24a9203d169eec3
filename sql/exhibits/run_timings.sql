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
    select sum(generations.seconds) as evaluation
    from run_systems
    inner join run_samples
        on run_systems.run_name = run_samples.run_name and run_samples.purpose = 'evaluation'
    inner join samples on run_samples.sample_digest = samples.sample_digest
    inner join generations
        on
            run_systems.system_id = generations.system_id
            and run_systems.generation_digest = generations.generation_digest
            and samples.prompt_id = generations.prompt_id
    where run_systems.run_name = $run_name
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
