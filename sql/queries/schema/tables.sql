-- Whether a database is empty, and whether it is a ledger.
-- One row per table.
select table_name
from duckdb_tables()
