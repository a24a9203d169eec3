-- The rows of a table that was loaded elsewhere, registered as source_table.
-- One row per row of the table.
create view source_rows as
select
    subset::varchar as subset,
    split::varchar as split,
    chosen::varchar as chosen,
    rejected::varchar as rejected
from source_table
