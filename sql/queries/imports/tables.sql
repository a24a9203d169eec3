-- The tables of this ledger that have a primary key, with its columns and all columns.
-- One row per table.
with keys as (
    select
        table_name,
        constraint_column_names as key_columns
    from duckdb_constraints()
    where constraint_type = 'PRIMARY KEY' and database_name = current_database()
),

named as (
    select
        table_name,
        list(column_name order by column_index) as column_names
    from duckdb_columns()
    where database_name = current_database()
    group by table_name
)

select
    keys.table_name,
    keys.key_columns,
    named.column_names
from keys
inner join named on keys.table_name = named.table_name
order by keys.table_name
