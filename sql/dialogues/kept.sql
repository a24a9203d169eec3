-- The pairs of a split that stay, as they are stored.
-- Variables: parsed (path of the parsed pairs), split.
-- One row per pair.
select
    pairs.prompt_id,
    pairs.subset,
    pairs.split,
    pairs.turns,
    pairs.instruction,
    pairs.chosen,
    pairs.rejected
from read_parquet(getvariable('parsed'), file_row_number = true) as pairs
inner join decisions on pairs.file_row_number = decisions.file_row_number
where decisions.reason is null and decisions.split = getvariable('split')::varchar
