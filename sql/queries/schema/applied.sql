-- Which migrations a ledger has seen.
-- One row per applied migration.
select
    version,
    checksum
from schema_migrations
order by version
