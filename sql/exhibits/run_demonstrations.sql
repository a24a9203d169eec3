-- The demonstrations a run admitted, and how often its ranking prompts showed each.
-- Parameters: $run_name.
-- One row per demonstration, oldest first; ranking holds positions in responses, best first.
with shown as (
    select
        round_demonstrations.demonstration,
        count(*) as times_shown
    from round_demonstrations
    where round_demonstrations.run_name = $run_name
    group by round_demonstrations.demonstration
)

select
    demonstrations.demonstration,
    demonstrations.kind,
    demonstrations.step,
    demonstrations.round,
    demonstrations.instruction,
    demonstrations.responses,
    demonstrations.ranking,
    coalesce(shown.times_shown, 0) as times_shown
from demonstrations
left join shown on demonstrations.demonstration = shown.demonstration
where demonstrations.run_name = $run_name
order by demonstrations.demonstration;
