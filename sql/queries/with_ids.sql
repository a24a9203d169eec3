-- What a table or view has under some ids.
-- Template: this_table stands for its name, this_id for the column of the ids.
-- Parameters: $ids.
-- One row per row of it.
with wanted as (
    select distinct unnest($ids::varchar[]) as this_id
)

select this_table.*
from this_table
inner join wanted using (this_id)
