-- Gives a run the rankings of another one's rounds.
-- Parameters: $source_run, $run_name, $steps (element i: the new step of the source's step i).
insert into rankings by name
select
    $run_name::varchar as run_name,
    list_extract($steps::integer[], step + 1) as step,
    round,
    ranker,
    ranking
from rankings
where run_name = $source_run
