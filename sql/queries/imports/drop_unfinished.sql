-- Drops the rows of runs that have not come to their end.
-- Template: this_table stands for a table with the column run_name.
delete from this_table
where run_name in (select runs.run_name from runs where runs.state <> 'complete')
