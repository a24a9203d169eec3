-- Splits pairs into turns and finds what is wrong with each pair by itself.
-- Variables: keep_paragraphs, drop_empty, drop_identical.
-- One row per row of the source.
create table parsed as
with split_into_exchanges as (
    select
        *,
        exchanges(chosen) as chosen_exchanges,
        exchanges(rejected) as rejected_exchanges
    from source_rows
),

split_into_turns as (
    select
        subset,
        split,
        chosen is null or rejected is null as broken,
        turns_of(chosen, chosen_exchanges, getvariable('keep_paragraphs')::boolean) as chosen_turns,
        turns_of(rejected, rejected_exchanges, getvariable('keep_paragraphs')::boolean) as rejected_turns
    from split_into_exchanges
),

judged as (
    select
        subset,
        split,
        chosen_turns[:-2] as turns,
        chosen_turns[-1].text as chosen,
        rejected_turns[-1].text as rejected,
        case
            when broken then 'broken_row'
            else
                fault_of(
                    chosen_turns,
                    rejected_turns,
                    getvariable('drop_empty')::boolean,
                    getvariable('drop_identical')::boolean
                )
        end as reason
    from split_into_turns
)

select
    subset,
    split,
    reason,
    turns,
    chosen,
    rejected,
    -- a test pair that is dropped for its replies still keeps its prompt out of training
    case
        when reason is null or reason in ('empty_reply', 'identical_replies') then sha256(render(turns))[:16]
    end as prompt_id
from judged
