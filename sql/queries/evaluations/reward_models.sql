-- The reward models that scored anything.
-- One row per reward model.
select reward_model
from reward_scores
union
select reward_model
from counted_pairs
order by reward_model
