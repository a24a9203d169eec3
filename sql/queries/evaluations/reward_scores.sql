-- Scores of a reward model that are there already.
-- Parameters: $reward_model, $generation_ids.
-- One row per score found.
with wanted as (
    select unnest($generation_ids::varchar[]) as generation_id
)

select
    reward_scores.generation_id,
    reward_scores.reward
from reward_scores
inner join wanted on reward_scores.generation_id = wanted.generation_id
where reward_scores.reward_model = $reward_model
