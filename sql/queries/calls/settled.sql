-- The calls that have an outcome, recorded since a time or a little before it: what is recorded first need not be on
-- the disk first.
-- Parameters: $since (null: all).
-- One row per outcome.
select
    call_key,
    ended_at
from standing_outcomes
where $since::timestamptz is null or ended_at > $since::timestamptz - interval 10 minutes
