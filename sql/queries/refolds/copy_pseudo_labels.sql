-- Gives a run the agreement rankings of another one's rounds.
-- Parameters: $source_run, $run_name, $steps (element i: the new step of the source's step i).
insert into pseudo_labels by name
select
    $run_name::varchar as run_name,
    list_extract($steps::integer[], step + 1) as step,
    round,
    ranking
from pseudo_labels
where run_name = $source_run
