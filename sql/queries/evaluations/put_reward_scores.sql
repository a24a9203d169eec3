-- Keeps scores of a reward model; one that is there stays as it is.
-- Parameters: $reward_model, $rows.
insert into reward_scores by name
select
    $reward_model::varchar as reward_model,
    now() as scored_at,
    unnest(cast($rows as struct(generation_id varchar, reward double)[]), max_depth := 2)
on conflict do nothing
