-- What a table or view has of one run, oldest first where the column that says when comes last.
-- Template: this_table stands for its name.
-- Parameters: $run_name.
select *
from this_table
where run_name = $run_name
