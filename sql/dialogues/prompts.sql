-- The prompts whose tokens are to be counted.
-- One row per prompt of a pair without fault.
select
    prompt_id,
    render(any_value(turns)) as instruction
from parsed
where reason is null
group by prompt_id
