-- Where the runs stand. A step is done when the round that stops it was trained on or could not be ranked;
-- those of a run without rounds are its optimizer steps up to the last checkpoint.
-- Parameters: $run_name (null: all runs).
-- One row per run, oldest first.
-- agreement is the mean length of the agreement over the last 40 ranked rounds, as a share of the candidates.
with wanted as (
    select *
    from runs
    where $run_name::varchar is null or run_name = $run_name
),

sampled as (
    select
        run_name,
        count(*) as rounds
    from sampled_rounds
    where $run_name::varchar is null or run_name = $run_name
    group by run_name
),

stopped as (
    select
        ranked.run_name,
        count(distinct ranked.step) as step
    from ranked_rounds as ranked
    left join trained_rounds as trained
        on ranked.run_name = trained.run_name and ranked.step = trained.step and ranked.round = trained.round
    where
        ranked.stops_step
        and (ranked.answer is null or trained.run_name is not null)
        and ($run_name::varchar is null or ranked.run_name = $run_name)
    group by ranked.run_name
),

unranked as (
    select
        run_name,
        count(*) as rounds
    from ranked_rounds
    where answer is null and ($run_name::varchar is null or run_name = $run_name)
    group by run_name
),

agreed as (
    select
        run_name,
        -- the latest, those of a wave from its end
        list_avg(arg_max(len(agreement), epoch_us(ranked_at) * 1024 + step % 1024, 40)) as agreement_length
    from ranked_rounds
    where answer is not null and ($run_name::varchar is null or run_name = $run_name)
    group by run_name
),

spent as (
    select
        run_name,
        sum(coalesce(cost_usd, reserved_usd)) as spend_usd
    from api_attempts
    where $run_name::varchar is null or run_name = $run_name
    group by run_name
),

saved as (
    select
        run_name,
        arg_max(weights_sha256, step) as weights_sha256,
        max(step) as step
    from checkpoints
    where $run_name::varchar is null or run_name = $run_name
    group by run_name
)

select
    wanted.run_name,
    wanted.state,
    wanted.state_reason,
    wanted.profile,
    wanted.seed,
    coalesce(stopped.step, if(sampled.rounds is null, saved.step, 0), 0)::integer as step,
    wanted.steps,
    coalesce(sampled.rounds, 0)::integer as rounds,
    coalesce(spent.spend_usd, 0)::decimal(18, 9) as spend_usd,
    coalesce(unranked.rounds / sampled.rounds, 0)::double as unranked,
    agreed.agreement_length / (wanted.settings ->> '$.method.candidates')::double as agreement,
    wanted.adapter_path,
    coalesce(wanted.weights_sha256, saved.weights_sha256) as weights_sha256
from wanted
left join sampled on wanted.run_name = sampled.run_name
left join stopped on wanted.run_name = stopped.run_name
left join unranked on wanted.run_name = unranked.run_name
left join agreed on wanted.run_name = agreed.run_name
left join spent on wanted.run_name = spent.run_name
left join saved on wanted.run_name = saved.run_name
order by wanted.created_at, wanted.run_name
