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

counted as (
    select
        run_name,
        count(*) as rounds,
        count(distinct step) filter (where stops_step and state in ('trained', 'unranked')) as step
    from rounds
    where $run_name::varchar is null or run_name = $run_name
    group by run_name
),

recent as (
    select
        run_name,
        agreement_length
    from rounds
    where agreement_length is not null and ($run_name::varchar is null or run_name = $run_name)
    qualify row_number() over (partition by run_name order by wave desc, round desc, step desc) <= 40
),

agreed as (
    select
        run_name,
        avg(agreement_length) as agreement_length
    from recent
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
    coalesce(counted.step, saved.step, 0)::integer as step,
    wanted.steps,
    coalesce(counted.rounds, 0)::integer as rounds,
    coalesce(spent.spend_usd, 0)::decimal(18, 9) as spend_usd,
    agreed.agreement_length / (wanted.settings ->> '$.method.candidates')::double as agreement,
    wanted.adapter_path,
    coalesce(wanted.weights_sha256, saved.weights_sha256) as weights_sha256
from wanted
left join counted on wanted.run_name = counted.run_name
left join agreed on wanted.run_name = agreed.run_name
left join spent on wanted.run_name = spent.run_name
left join saved on wanted.run_name = saved.run_name
order by wanted.created_at, wanted.run_name
