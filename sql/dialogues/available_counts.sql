-- How many prompts may be drawn.
-- One row per subset.
select
    subset,
    count(*) as prompts
from available
group by subset
order by subset
