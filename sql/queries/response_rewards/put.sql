-- Keep the rewards of candidates; those that are there stay as they are.
-- Parameters: $run_name, $reward_model, $rows (structs of step, round, slot, reward).
insert into response_rewards (run_name, step, round, slot, reward_model, reward)
select
    $run_name,
    row.step,
    row.round,
    row.slot,
    $reward_model,
    row.reward
from (select unnest($rows::struct(step integer, round integer, slot integer, reward double)[]) as row)
on conflict do nothing
