-- What people said of pairs of responses.
-- Parameters: $generation_ids (of both responses of all pairs).
-- One row per person and pair, oldest first.
with wanted as (
    select unnest($generation_ids::varchar[]) as generation_id
)

select
    comparisons.judge as annotator,
    comparisons.first_generation_id,
    comparisons.second_generation_id,
    comparisons.verdict
from comparisons
where
    comparisons.judge_kind = 'person'
    and comparisons.verdict <> 'missing'
    and comparisons.first_generation_id in (select wanted.generation_id from wanted)
    and comparisons.second_generation_id in (select wanted.generation_id from wanted)
order by comparisons.compared_at, comparisons.comparison_id
