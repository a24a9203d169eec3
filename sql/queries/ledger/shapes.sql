-- The tables of facts in this database, with their columns' types, their keys and the column that says when.
-- One row per table.
select
    tables.table_name,
    replace(tables.comment, 'key: ', '') as key,
    list(columns.column_name order by columns.column_index) as columns,
    list(columns.data_type order by columns.column_index) as types,
    any_value(columns.column_name) filter (where columns.data_type = 'TIMESTAMP WITH TIME ZONE') as recorded_at
from duckdb_tables() as tables
inner join duckdb_columns() as columns
    on tables.database_name = columns.database_name and tables.table_name = columns.table_name
where tables.database_name = current_database() and tables.comment like 'key: %'
group by tables.table_name, tables.comment
order by tables.table_name
