-- Splits pairs into turns and finds what is wrong with each pair by itself; says whose tokens to count.
-- Variables: paragraphs, drop_empty, drop_identical.
-- One row of `parsed` per row of the source, of `prompts` per prompt of a pair without fault, of
-- `prompt_tokens` per prompt whose tokens were counted.
create table parsed as
with texts as (
    select * replace (chosen::varchar as chosen, rejected::varchar as rejected)
    from source_rows
),

split_into_exchanges as (
    select
        *,
        exchanges(chosen) as chosen_exchanges,
        exchanges(rejected) as rejected_exchanges
    from texts
),

split_into_turns as (
    select
        subset,
        split,
        turns_of(chosen, chosen_exchanges, getvariable('paragraphs') = 'keep') as chosen_turns,
        turns_of(rejected, rejected_exchanges, getvariable('paragraphs') = 'keep') as rejected_turns
    from split_into_exchanges
),

judged as (
    select
        subset,
        split,
        chosen_turns[:-2] as turns,
        chosen_turns[-1].text as chosen,
        rejected_turns[-1].text as rejected,
        fault_of(chosen_turns, rejected_turns) as reason
    from split_into_turns
)

select
    *,
    -- a test pair that is dropped for its replies still keeps its prompt out of training
    case
        when reason is null or reason in ('empty_reply', 'identical_replies') then sha256(render(turns))[:16]
    end as prompt_id
from judged;

create view prompts as
select
    prompt_id,
    render(any_value(turns)) as instruction
from parsed
where reason is null
group by prompt_id;

create table prompt_tokens (prompt_id varchar, tokens bigint);
