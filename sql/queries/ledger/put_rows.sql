-- Adds rows whose keys are not there; of new rows with the same key the first counts.
-- Template: this_target and this_known stand for the table and what holds the keys that are there, this_key for the
-- columns of the key.
-- Parameters: $rows (a JSON text each), $shape (column names with their types).
insert into this_target by name
with entries as (
    select
        unnest($rows::varchar[]) as entry,
        generate_subscripts($rows::varchar[], 1) as place
),

shaped as (
    select
        place,
        unnest(from_json(entry, $shape))
    from entries
)

select shaped.* exclude (place)
from shaped
anti join this_known using (this_key)
qualify row_number() over (partition by this_key order by place) = 1
