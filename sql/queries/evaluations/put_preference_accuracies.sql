-- Keeps how often a fitted preference model prefers the chosen reply of held-out pairs.
-- Parameters: $reward_model, $rows.
insert into preference_accuracies by name
select
    $reward_model::varchar as reward_model,
    now() as measured_at,
    unnest(cast($rows as struct(subset varchar, pairs integer, accuracy double)[]), max_depth := 2)
on conflict (reward_model, subset) do update set
    pairs = excluded.pairs,
    accuracy = excluded.accuracy,
    measured_at = excluded.measured_at
