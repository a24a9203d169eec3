-- How many pairs were read and dropped.
-- One row per subset, split and reason; reason is null for those that stay.
select
    subset,
    split,
    reason,
    count(*) as pairs
from decisions
group by subset, split, reason
order by subset, split, reason
