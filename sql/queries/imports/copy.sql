-- Takes over the facts of finished runs of the other ledger whose keys are not here.
-- Template: as in conflicts.sql.
insert into this_table by name
select theirs.*
from other.this_table as theirs
anti join this_table as ours using (this_key)
where this_choice
