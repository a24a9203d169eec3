-- How many prompts a split of a prepared data set has.
-- Variables: prepared (path of the split's file).
-- One row per subset.
select
    subset,
    count(distinct prompt_id) as prompts
from read_parquet(getvariable('prepared'))
group by subset
order by subset
