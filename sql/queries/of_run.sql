-- What a table or view has of one run.
-- Template: this_table stands for its name.
-- Parameters: $run_name.
-- One row per row of it.
select *
from this_table
where run_name = $run_name
