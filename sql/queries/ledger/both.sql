-- A table of facts as readers see it: what the ledger holds, and what journals hold beyond it.
-- Template: this_table stands for its name.
create view this_table as
from ledger.this_table
union all by name
from tail.this_table
