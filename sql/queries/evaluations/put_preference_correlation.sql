-- Keeps how alike two preference models that were fitted together judge held-out pairs.
-- Parameters: $reward_model, $other_model, $pairs, $correlation.
insert into preference_correlations (reward_model, other_model, pairs, correlation, measured_at)
values ($reward_model, $other_model, $pairs, $correlation, now())
on conflict (reward_model, other_model) do update set
    pairs = excluded.pairs,
    correlation = excluded.correlation,
    measured_at = excluded.measured_at
