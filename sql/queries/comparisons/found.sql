-- Verdicts that are there already.
-- Parameters: $comparison_ids.
-- One row per comparison found.
with wanted as (
    select unnest($comparison_ids::varchar[]) as comparison_id
)

select
    comparisons.first_generation_id,
    comparisons.second_generation_id,
    comparisons.judge,
    comparisons.judge_kind,
    comparisons.verdict,
    comparisons.reason,
    comparisons.call_key
from comparisons
inner join wanted on comparisons.comparison_id = wanted.comparison_id
