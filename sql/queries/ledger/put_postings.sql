-- Notes how many bytes of which journal the ledger holds now; journals that are gone go here too.
-- Parameters: $rows.
create or replace table postings as
select unnest(cast($rows as struct(journal varchar, bytes bigint)[]), max_depth := 2)
