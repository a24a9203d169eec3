-- Gives a run the record of which demonstrations another one's ranking prompts showed.
-- Parameters: $source_run, $run_name, $steps (element i: the new step of the source's step i).
insert into round_demonstrations by name
select
    $run_name::varchar as run_name,
    list_extract($steps::integer[], step + 1) as step,
    round,
    position,
    demonstration
from round_demonstrations
where run_name = $source_run
