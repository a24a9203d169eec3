-- Keeps the rewards of candidates; one that is there stays as it is.
-- Parameters: $run_name, $reward_model, $rows.
insert into response_rewards by name
select
    $run_name::varchar as run_name,
    $reward_model::varchar as reward_model,
    unnest(
        cast($rows as struct(step integer, round integer, slot integer, reward double)[]), max_depth := 2
    )
on conflict do nothing
