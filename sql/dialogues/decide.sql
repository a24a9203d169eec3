-- Decides for every parsed pair whether it stays: adds the reasons that other pairs or a tokenizer give.
-- Variables: drop_duplicates, max_prompt_tokens (null: no limit); split (whose pairs `kept` shows).
-- One row of `decisions` per parsed pair (reason is null for those that stay), of `kept` per pair of the
-- split that stays, of `files` per subset and split, of `drops` per subset, split and reason.
create table decisions as
with measured as (
    select
        parsed.rowid as place,
        subset,
        split,
        prompt_id,
        case
            when reason is not null then reason
            -- those of the test files stay, as in the paper: the white box sees what fits of them
            when split = 'train' and tokens > getvariable('max_prompt_tokens')::bigint then 'prompt_too_long'
        end as reason
    from parsed
    left join prompt_tokens using (prompt_id)
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
        split,
        prompt_id,
        arg_min(
            place, row(md5(concat_ws(chr(31), parsed.subset, render(turns), chosen, rejected)), place)
        ) as first_place
    from measured
    inner join repeated using (split, prompt_id)
    inner join parsed on measured.place = parsed.rowid
    where measured.reason is null
    group by split, prompt_id
)

select
    place,
    subset,
    split,
    case
        when reason is not null then reason
        when getvariable('drop_duplicates')::boolean and place <> first_place then 'duplicate_prompt'
        when split = 'train' and prompt_id in (select prompt_id from parsed where split = 'test')
            then 'test_prompt'
    end as reason
from measured
left join first_pairs using (split, prompt_id);

create view kept as
select parsed.* exclude (reason)
from parsed
inner join decisions on parsed.rowid = decisions.place
where decisions.reason is null and decisions.split = getvariable('split')::varchar;

create view files as
select
    subset,
    split,
    count(*) as rows_read,
    count(*) filter (where reason is null) as pairs_kept
from decisions
group by subset, split
order by subset, split;

create view drops as
select
    subset,
    split,
    reason,
    count(*) as pairs_dropped
from decisions
where reason is not null
group by subset, split, reason
order by subset, split, reason;
