-- What a table or view has of some steps of a run.
-- Template: this_table stands for its name.
-- Parameters: $run_name, $first_step (included), $last_step (excluded).
-- One row per row of it, in the order of steps and rounds.
select *
from this_table
where run_name = $run_name and step >= $first_step and step < $last_step
order by step, round
