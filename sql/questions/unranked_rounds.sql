-- Rounds that could not be ranked, by reason; they trained nothing.
-- Parameters: $run_name (null: all).
-- One row per run and reason; share_of_rounds is of all rounds of the run that were asked about.
with asked as (
    select
        run_name,
        state,
        unranked_reason,
        step,
        count(*) over (partition by run_name) as rounds_asked
    from rounds
    where state <> 'sampled' and ($run_name::varchar is null or run_name = $run_name)
)

select
    run_name,
    unranked_reason,
    count(*) as unranked_rounds,
    count(*) / any_value(rounds_asked) as share_of_rounds,
    min(step) as first_step,
    max(step) as last_step
from asked
where state = 'unranked'
group by run_name, unranked_reason
order by run_name asc, unranked_rounds desc, unranked_reason asc
