-- What the filters read, dropped and kept, beside the sizes that the paper gives (paper, Table 6).
-- Parameters: $dataset_digest (null: all).
-- One row per data set, subset and split; drops maps each reason to its pairs; paper_pairs is what the paper
-- gives for the whole subset, null for others.
with paper (position, subset, split, pairs) as (
    values
    (0, 'harmless-base', 'train', 42537),
    (1, 'harmless-base', 'test', 2312),
    (2, 'helpful-base', 'train', 43835),
    (3, 'helpful-base', 'test', 2354),
    (4, 'helpful-online', 'train', 22007),
    (5, 'helpful-online', 'test', 1137),
    (6, 'helpful-rejection-sampled', 'train', 52421),
    (7, 'helpful-rejection-sampled', 'test', 2749)
),

drops as (
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
    paper.pairs as paper_pairs
from dataset_files
left join drops
    on
        dataset_files.dataset_digest = drops.dataset_digest
        and dataset_files.subset = drops.subset
        and dataset_files.split = drops.split
left join paper on dataset_files.subset = paper.subset and dataset_files.split = paper.split
where $dataset_digest::varchar is null or dataset_files.dataset_digest = $dataset_digest
order by
    dataset_files.dataset_digest asc,
    paper.position asc,
    dataset_files.subset asc,
    dataset_files.split desc
