-- Generations that are there already.
-- Parameters: $generation_ids.
-- One row per generation found.
with wanted as (
    select unnest($generation_ids::varchar[]) as generation_id
)

select
    generations.generation_id,
    generations.system_id,
    generations.prompt_id,
    generations.generation_digest,
    generations.settings,
    generations.text,
    generations.tokens,
    generations.ended,
    generations.repeated_4grams,
    generations.seconds
from generations
inner join wanted on generations.generation_id = wanted.generation_id
