-- Preference pairs of a prepared data set in a seeded order.
-- Variables: prepared (path of the split's file).
-- Parameters: $seed, $subsets (null: all), $pairs (null: all).
-- One row per pair.
select
    prompt_id,
    subset,
    split,
    turns,
    chosen,
    rejected
from read_parquet(getvariable('prepared'))
where $subsets::varchar[] is null or list_contains($subsets::varchar[], subset)
order by md5(concat_ws(chr(31), $seed::bigint, prompt_id, subset, chosen, rejected))
limit coalesce($pairs::bigint, 9223372036854775807)
