-- Decides for every parsed pair whether it stays: adds the reasons that other pairs or a tokenizer give.
-- Variables: drop_duplicates, max_prompt_tokens (null: no limit).
-- One row per parsed pair; reason is null for those that stay.
create table decisions as
with measured as (
    select
        parsed.rowid as place,
        parsed.subset,
        parsed.split,
        parsed.prompt_id,
        case
            when parsed.reason is not null then parsed.reason
            when prompt_tokens.tokens > getvariable('max_prompt_tokens')::bigint then 'prompt_too_long'
        end as reason
    from parsed
    left join prompt_tokens on parsed.prompt_id = prompt_tokens.prompt_id
),

repeated as (
    select
        split,
        prompt_id
    from measured
    where reason is null
    group by split, prompt_id
    having count(*) > 1
),

-- Of the pairs of a prompt the one whose text comes first stays, not the one that was read first. Pairs
-- that agree in their hash are equal in everything, so any of them may stay.
first_pairs as (
    select
        measured.split,
        measured.prompt_id,
        arg_min(
            measured.place,
            {
                'text': md5(
                    concat_ws(chr(31), parsed.subset, render(parsed.turns), parsed.chosen, parsed.rejected)
                ),
                'place': measured.place
            }
        ) as place
    from measured
    inner join repeated on measured.split = repeated.split and measured.prompt_id = repeated.prompt_id
    inner join parsed on measured.place = parsed.rowid
    where measured.reason is null
    group by measured.split, measured.prompt_id
),

test_prompts as (
    select distinct prompt_id
    from parsed
    where split = 'test' and prompt_id is not null
)

select
    measured.place,
    measured.subset,
    measured.split,
    case
        when measured.reason is not null then measured.reason
        when getvariable('drop_duplicates')::boolean and measured.place <> first_pairs.place
            then 'duplicate_prompt'
        when measured.split = 'train' and test_prompts.prompt_id is not null then 'test_prompt'
    end as reason
from measured
left join first_pairs
    on measured.split = first_pairs.split and measured.prompt_id = first_pairs.prompt_id
left join test_prompts on measured.prompt_id = test_prompts.prompt_id
