-- The prompts of a split that may be drawn. Of the pairs of a prompt that has several, in whichever subset,
-- the one whose text comes first counts, whatever the order of rows.
-- Variables: prepared (path of the split's file). Parameters: $excluded (prompt ids).
-- One row per prompt.
create table available as
with pairs as (
    select
        file_row_number,
        prompt_id,
        subset
    from read_parquet(getvariable('prepared'), file_row_number = true)
    where prompt_id not in (select unnest($excluded::varchar[]))
),

repeated as (
    select prompt_id
    from pairs
    group by prompt_id
    having count(*) > 1
),

-- texts are read for these alone
tied as (
    select
        texts.file_row_number,
        md5(concat_ws(chr(31), texts.subset, texts.chosen, texts.rejected)) as tie_order
    from read_parquet(getvariable('prepared'), file_row_number = true) as texts
    inner join repeated on texts.prompt_id = repeated.prompt_id
)

select pairs.*
from pairs
left join tied on pairs.file_row_number = tied.file_row_number
qualify row_number() over (partition by pairs.prompt_id order by tied.tie_order) = 1
