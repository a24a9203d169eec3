-- What the filters read and kept of the run's data set, beside the paper's counts (paper, Table 6).
-- Parameters: $run_name.
-- One row per subset and split, in the order of the paper's table.
-- drops maps reason to pairs; paper_pairs is null for the generated world, which the paper does not describe.
with table_6 as (
    select
        paper.position,
        paper.subset,
        paper.split,
        paper.pairs
    from (
        values
        (0, 'harmless-base', 'train', 42537),
        (1, 'helpful-base', 'train', 43835),
        (2, 'helpful-online', 'train', 22007),
        (3, 'helpful-rejection-sampled', 'train', 52421),
        (4, 'harmless-base', 'test', 2312),
        (5, 'helpful-base', 'test', 2354),
        (6, 'helpful-online', 'test', 1137),
        (7, 'helpful-rejection-sampled', 'test', 2749)
    ) as paper (position, subset, split, pairs)
),

used as (
    select distinct samples.dataset_digest
    from run_samples
    inner join samples on run_samples.sample_digest = samples.sample_digest
    where run_samples.run_name = $run_name
),

drops as (
    select
        filter_drops.dataset_digest,
        filter_drops.subset,
        filter_drops.split,
        map_from_entries(
            list((filter_drops.reason, filter_drops.pairs_dropped) order by filter_drops.reason)
        ) as drops
    from filter_drops
    where filter_drops.pairs_dropped > 0
    group by filter_drops.dataset_digest, filter_drops.subset, filter_drops.split
)

select
    dataset_files.subset,
    dataset_files.split,
    dataset_files.rows_read,
    dataset_files.pairs_kept,
    coalesce(drops.drops, map([], [])) as drops,
    case when datasets.source <> 'world' then table_6.pairs end as paper_pairs
from used
inner join datasets on used.dataset_digest = datasets.dataset_digest
inner join dataset_files on used.dataset_digest = dataset_files.dataset_digest
left join drops
    on
        dataset_files.dataset_digest = drops.dataset_digest
        and dataset_files.subset = drops.subset
        and dataset_files.split = drops.split
left join table_6 on dataset_files.subset = table_6.subset and dataset_files.split = table_6.split
order by table_6.position asc nulls last, dataset_files.subset asc, dataset_files.split desc;
