-- Draws prompts, as many of each subset as its quota says. The order of a subset and that of the whole are
-- orders of hashes of seed and prompt: they depend on neither the order of rows nor the number of threads.
-- Variables: prepared (path of the split's file).
-- Parameters: $seed, $quotas (list of {subset, prompts}).
-- One row per prompt drawn, in the order of the sample.
with ranked as (
    select
        *,
        row_number() over (
            partition by subset order by md5(concat_ws(':', 'draw', $seed::bigint, prompt_id))
        ) as place
    from available
),

quotas as (
    select unnest(cast($quotas as struct(subset varchar, prompts bigint)[]), max_depth := 2)
)

select
    pairs.prompt_id,
    pairs.subset,
    pairs.split,
    pairs.turns,
    pairs.chosen,
    pairs.rejected
from ranked
inner join quotas on ranked.subset = quotas.subset and ranked.place <= quotas.prompts
inner join read_parquet(getvariable('prepared'), file_row_number = true) as pairs
    on ranked.file_row_number = pairs.file_row_number
order by md5(concat_ws(':', 'order', $seed::bigint, ranked.prompt_id))
