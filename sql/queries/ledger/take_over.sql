-- Takes the facts of the attached ledger of an earlier version.
-- Template: this_table stands for a table, these_columns for the columns that both versions have.
insert into this_table by name
select these_columns
from before.this_table
