-- The prompts whose tokens are to be counted.
-- One row per distinct prompt of a pair without fault.
select distinct
    prompt_id,
    instruction
from parsed
where reason is null
