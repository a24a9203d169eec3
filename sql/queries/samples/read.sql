-- The prompts of a sample with the data set's own replies.
-- Parameters: $sample_digest.
-- One row per position, in order.
select
    samples.position,
    prompts.prompt_id,
    prompts.subset,
    prompts.split,
    prompts.turns,
    prompts.chosen,
    prompts.rejected
from samples
inner join prompts on samples.prompt_id = prompts.prompt_id
where samples.sample_digest = $sample_digest
order by samples.position
