-- How many prompts a split of a prepared data set has.
-- Variables: prepared (path of the split's file). Parameters: $excluded (prompt ids).
-- One row per subset.
select
    subset,
    count(distinct prompt_id) as prompts
from read_parquet(getvariable('prepared'))
where not list_contains($excluded::varchar[], prompt_id)
group by subset
order by subset
