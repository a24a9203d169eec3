-- Draws prompts, as many of each subset as its quota says; the order of the whole is an order of hashes, too.
-- Reads `prepared`, the split's file. Variables: seed. Parameters: $quotas (list of {subset, prompts}).
-- One row per prompt drawn, in the order of the sample.
with quotas as (
    select unnest(cast($quotas as struct(subset varchar, prompts bigint)[]), max_depth := 2)
)

select prepared.* exclude (file_row_number)
from available
inner join quotas on available.subset = quotas.subset and available.place <= quotas.prompts
inner join prepared on available.file_row_number = prepared.file_row_number
order by md5(concat_ws(':', 'order', getvariable('seed')::bigint, prepared.prompt_id))
