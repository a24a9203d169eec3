-- What the filters read and kept of the data sets, beside the paper's counts (paper, Table 6).
-- Parameters: $run_name (null: every run).
-- One row per data set, subset and split, in the order of the paper's table.
-- drops maps reason to pairs; paper_pairs is null for the generated world, which the paper does not describe.
with used as (
    select distinct samples.dataset_digest
    from run_samples
    inner join samples on run_samples.sample_digest = samples.sample_digest
    where $run_name::varchar is null or run_samples.run_name = $run_name
),

dropped as (
    select
        dataset_digest,
        subset,
        split,
        map_from_entries(list((reason, pairs_dropped) order by reason)) as drops
    from filter_drops
    where pairs_dropped > 0
    group by dataset_digest, subset, split
)

select
    datasets.dataset_digest,
    dataset_files.subset,
    dataset_files.split,
    dataset_files.rows_read,
    dataset_files.pairs_kept,
    coalesce(dropped.drops, map([], [])) as drops,
    case when datasets.source <> 'world' then paper_table_6.pairs end as paper_pairs
from used
inner join datasets on used.dataset_digest = datasets.dataset_digest
inner join dataset_files on used.dataset_digest = dataset_files.dataset_digest
left join dropped
    on
        dataset_files.dataset_digest = dropped.dataset_digest
        and dataset_files.subset = dropped.subset
        and dataset_files.split = dropped.split
left join paper_table_6
    on dataset_files.subset = paper_table_6.subset and dataset_files.split = paper_table_6.split
order by
    datasets.dataset_digest asc,
    dataset_files.split desc,
    paper_table_6.position asc nulls last,
    dataset_files.subset asc;
