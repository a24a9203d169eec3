-- What the filters read, dropped and kept, beside the sizes that the paper gives (paper, Table 6).
-- Parameters: $dataset_digest (null: all).
-- One row per data set, subset and split; drops maps each reason to its pairs; paper_pairs is what the paper
-- gives for the whole subset, null for others.
with drops as (
    select
        dataset_digest,
        subset,
        split,
        map_from_entries(list((reason, pairs_dropped) order by reason)) as drops
    from filter_drops
    group by dataset_digest, subset, split
)

select
    dataset_files.dataset_digest,
    dataset_files.subset,
    dataset_files.split,
    dataset_files.rows_read,
    drops.drops,
    dataset_files.pairs_kept,
    paper_table_6.pairs as paper_pairs
from dataset_files
left join drops
    on
        dataset_files.dataset_digest = drops.dataset_digest
        and dataset_files.subset = drops.subset
        and dataset_files.split = drops.split
left join paper_table_6
    on dataset_files.subset = paper_table_6.subset and dataset_files.split = paper_table_6.split
where $dataset_digest::varchar is null or dataset_files.dataset_digest = $dataset_digest
order by
    dataset_files.dataset_digest asc,
    paper_table_6.position asc,
    dataset_files.subset asc,
    dataset_files.split desc
