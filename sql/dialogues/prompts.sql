-- The prompts whose tokens are to be counted.
-- Parameters: $parsed (path of the parsed pairs).
-- One row per distinct prompt of a pair without fault.
select distinct
    prompt_id,
    instruction
from read_parquet($parsed)
where reason is null
