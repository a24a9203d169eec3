-- What was read and kept beside the sizes that the paper gives for the full data set (paper, Table 6).
-- Parameters: $dataset_digest.
-- One row per subset and split, in the order of the paper; the paper's columns are null for other subsets.
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
)

select
    dataset_files.subset,
    dataset_files.split,
    dataset_files.rows_read,
    dataset_files.pairs_kept,
    paper.pairs as paper_pairs
from dataset_files
left join paper on dataset_files.subset = paper.subset and dataset_files.split = paper.split
where dataset_files.dataset_digest = $dataset_digest
order by paper.position asc, dataset_files.subset asc, dataset_files.split desc
