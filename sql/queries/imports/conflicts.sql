-- Rows of the other ledger that are here under the same key with other content.
-- Template: this_table, this_key and this_content stand for a table, the columns of its primary key and those
-- that are compared, the key among them.
-- One row per conflict, in order: the key.
with differing as (
    select this_content from other.this_table
    except
    select this_content from this_table
)

select this_key
from differing
semi join this_table using (this_key)
order by all
