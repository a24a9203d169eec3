-- Rounds that could not be ranked and so trained nothing.
-- Parameters: $run_name.
-- One row per reason, the commonest first.
-- share_of_rounds is of all rounds of the run.
with counts as (
    select
        rounds.state,
        rounds.unranked_reason as reason,
        count(*) as rounds,
        count(*) / sum(count(*)) over () as share_of_rounds
    from rounds
    where rounds.run_name = $run_name
    group by rounds.state, rounds.unranked_reason
)

select
    counts.reason,
    counts.rounds,
    counts.share_of_rounds
from counts
where counts.state = 'unranked'
order by counts.rounds desc, counts.reason asc;
