-- Keeps how many pairs of a data set were dropped for which reason.
-- Parameters: $dataset_digest, $rows.
insert into filter_drops by name
select
    $dataset_digest::varchar as dataset_digest,
    unnest(
        cast($rows as struct(subset varchar, split varchar, reason varchar, pairs_dropped bigint)[]),
        max_depth := 2
    )
on conflict do nothing
