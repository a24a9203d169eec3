-- The demonstrations of a run and where each was shown.
-- Parameters: $run_name (null: all).
-- One row per run and demonstration; number 0 is the static one. Text is that of the best response.
with shown as (
    select
        run_name,
        demonstration,
        count(*) as times_shown,
        min(step) as first_shown_at_step,
        max(step) as last_shown_at_step
    from round_demonstrations
    where $run_name::varchar is null or run_name = $run_name
    group by run_name, demonstration
)

select
    demonstrations.run_name,
    demonstrations.demonstration,
    demonstrations.kind,
    demonstrations.step as admitted_at_step,
    demonstrations.round as admitted_in_round,
    coalesce(shown.times_shown, 0) as times_shown,
    shown.first_shown_at_step,
    shown.last_shown_at_step,
    demonstrations.ranking,
    demonstrations.instruction,
    demonstrations.responses[demonstrations.ranking[1] + 1] as best_response
from demonstrations
left join shown
    on demonstrations.run_name = shown.run_name and demonstrations.demonstration = shown.demonstration
where $run_name::varchar is null or demonstrations.run_name = $run_name
order by demonstrations.run_name, demonstrations.demonstration
