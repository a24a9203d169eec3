-- The pairs of a split that stay, as they are stored.
-- Variables: split.
-- One row per pair.
select
    parsed.prompt_id,
    parsed.subset,
    parsed.split,
    parsed.turns,
    parsed.chosen,
    parsed.rejected
from parsed
inner join decisions on parsed.rowid = decisions.place
where decisions.reason is null and decisions.split = getvariable('split')::varchar
