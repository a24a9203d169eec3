-- How many tokens prompts have; stays empty when nobody counts.
create table prompt_tokens (
    prompt_id varchar,
    tokens bigint
)
