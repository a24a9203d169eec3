-- Takes over the rows of the other ledger whose keys are not here.
-- Template: this_table and this_key stand for a table and the columns of its primary key.
insert into this_table by name
select theirs.*
from other.this_table as theirs
anti join this_table as ours using (this_key)
