-- Facts of finished runs of the other ledger that are here under the same key with other content.
-- Template: this_table, this_key, this_content and this_choice stand for a table, the columns of its key, those that
-- are compared, the key among them, and what is taken over.
-- One row per conflict, in order: the key.
with differing as (
    select this_content from other.this_table
    where this_choice
    except
    select this_content from this_table
)

select distinct this_key
from differing
semi join this_table using (this_key)
order by all
