-- Gives a run the demonstrations that another one admitted; the static one belongs to no step.
-- Parameters: $source_run, $run_name, $steps (element i: the new step of the source's step i).
insert into demonstrations by name
select
    $run_name::varchar as run_name,
    demonstration,
    kind,
    list_extract($steps::integer[], step + 1) as step,
    round,
    instruction,
    responses,
    ranking
from demonstrations
where run_name = $source_run
