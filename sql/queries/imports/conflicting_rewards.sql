-- Rewards of the other ledger that differ from those here by more than rounding on another machine.
-- Parameters: $tolerance.
-- One row per conflict, in order: the key.
select
    theirs.generation_id,
    theirs.reward_model
from other.reward_scores as theirs
inner join reward_scores as ours
    on theirs.generation_id = ours.generation_id and theirs.reward_model = ours.reward_model
where abs(theirs.reward - ours.reward) > $tolerance
order by theirs.generation_id, theirs.reward_model
