-- How often a fitted preference model prefers the chosen reply of held-out pairs.
-- Parameters: $reward_model.
-- One row per subset.
select
    subset,
    pairs,
    accuracy
from preference_accuracies
where reward_model = $reward_model
order by subset
