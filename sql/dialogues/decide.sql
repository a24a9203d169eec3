-- Decides for every parsed pair whether it stays: adds the reasons that other pairs or a tokenizer give.
-- Variables: parsed (path of the parsed pairs), drop_duplicates, max_prompt_tokens (null: no limit).
-- One row per parsed pair; reason is null for those that stay.
create table decisions as
with parsed as (
    select
        file_row_number,
        subset,
        split,
        reason,
        prompt_id,
        tie_order
    from read_parquet(getvariable('parsed'), file_row_number = true)
),

measured as (
    select
        parsed.* exclude (reason),
        case
            when parsed.reason is not null then parsed.reason
            when prompt_tokens.tokens > getvariable('max_prompt_tokens')::bigint then 'prompt_too_long'
        end as reason
    from parsed
    left join prompt_tokens on parsed.prompt_id = prompt_tokens.prompt_id
),

-- rows that agree in their tie_order are equal in everything, so any of them may stay
first_pairs as (
    select
        split,
        prompt_id,
        arg_min(file_row_number, { 'tie_order': tie_order, 'row': file_row_number }) as file_row_number
    from measured
    where reason is null
    group by split, prompt_id
),

test_prompts as (
    select distinct prompt_id
    from parsed
    where split = 'test' and prompt_id is not null
)

select
    measured.file_row_number,
    measured.subset,
    measured.split,
    case
        when measured.reason is not null then measured.reason
        when getvariable('drop_duplicates')::boolean and first_pairs.file_row_number is null
            then 'duplicate_prompt'
        when measured.split = 'train' and test_prompts.prompt_id is not null then 'test_prompt'
    end as reason
from measured
left join first_pairs
    on
        measured.split = first_pairs.split
        and measured.prompt_id = first_pairs.prompt_id
        and measured.file_row_number = first_pairs.file_row_number
left join test_prompts on measured.prompt_id = test_prompts.prompt_id
