-- Draws prompts, as many of each subset as its quota says. The order of a subset and that of the whole are
-- orders of hashes of seed and prompt: they depend on neither the order of rows nor the number of threads.
-- Variables: prepared (path of the split's file).
-- Parameters: $seed, $quotas (list of {subset, prompts}), $excluded (prompt ids).
-- One row per prompt drawn, in the order of the sample.
with hashed as (
    select
        *,
        md5(concat_ws(chr(31), subset, chosen, rejected)) as tie_order
    from read_parquet(getvariable('prepared'))
    where not list_contains($excluded::varchar[], prompt_id)
),

pairs as (
    select *
    from hashed
    qualify row_number() over (partition by prompt_id order by tie_order) = 1
),

ranked as (
    select
        *,
        row_number() over (
            partition by subset order by md5(concat_ws(':', 'draw', $seed::bigint, prompt_id))
        ) as place
    from pairs
),

quotas as (
    select unnest(cast($quotas as struct(subset varchar, prompts bigint)[]), max_depth := 2)
)

select
    ranked.prompt_id,
    ranked.subset,
    ranked.split,
    ranked.turns,
    ranked.chosen,
    ranked.rejected
from ranked
inner join quotas on ranked.subset = quotas.subset and ranked.place <= quotas.prompts
order by md5(concat_ws(':', 'order', $seed::bigint, ranked.prompt_id))
