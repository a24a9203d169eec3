-- Keeps how many pairs of a data set were read and are left.
-- Parameters: $dataset_digest, $rows.
insert into dataset_files by name
select
    $dataset_digest::varchar as dataset_digest,
    unnest(
        cast($rows as struct(subset varchar, split varchar, rows_read bigint, pairs_kept bigint)[]), max_depth
        := 2
    )
on conflict do nothing
