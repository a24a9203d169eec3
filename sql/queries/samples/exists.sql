-- How many prompts a sample has; 0 when it was never drawn.
-- Parameters: $sample_digest.
-- One row per call.
select count(*) as prompts
from samples
where sample_digest = $sample_digest
