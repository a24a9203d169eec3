-- What the filters dropped.
-- Parameters: $dataset_digest.
-- One row per subset, split and reason.
select
    subset,
    split,
    reason,
    pairs_dropped
from filter_drops
where dataset_digest = $dataset_digest
order by subset asc, split asc, pairs_dropped desc, reason asc
