-- Whether the counts of a data set are known.
-- Parameters: $dataset_digest.
-- One row per data set of that digest: one or none.
select dataset_digest
from datasets
where dataset_digest = $dataset_digest
