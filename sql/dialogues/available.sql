-- The prompts of a split that may be drawn, each with its place in the seeded order of its subset: an order
-- of hashes of seed and prompt, which depends on neither the order of rows nor the number of threads. Of the
-- pairs of a prompt that has several, in whichever subset, the one whose text comes first counts.
-- Reads `prepared`, the split's file. Variables: excluded (prompt ids), seed.
-- One row of `available` per prompt, of `subset_sizes` per subset.
create table available as
with pairs as (
    select
        file_row_number,
        prompt_id,
        subset
    from prepared
    where prompt_id not in (select unnest(getvariable('excluded')::varchar[]))
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
        file_row_number,
        md5(concat_ws(chr(31), subset, chosen, rejected)) as tie_order
    from prepared
    inner join repeated using (prompt_id)
),

prompts as (
    select pairs.*
    from pairs
    left join tied using (file_row_number)
    qualify row_number() over (partition by prompt_id order by tie_order) = 1
)

select
    *,
    row_number() over (
        partition by subset order by md5(concat_ws(':', 'draw', getvariable('seed')::bigint, prompt_id))
    ) as place
from prompts;

create view subset_sizes as
select
    subset,
    count(*) as prompts
from available
group by subset
order by subset;
