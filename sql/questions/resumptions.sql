-- What resuming replayed: trained on again from the ledger, without sampling and without asking.
-- Parameters: $run_name (null: all).
-- One row per time a process continued a run, oldest first.
-- first_new_step is null where it did not get to rounds that were not recorded.
select
    run_name,
    resumption,
    started_at,
    process_host,
    process_id,
    checkpoint_step,
    rounds_replayed,
    optimizer_steps_replayed,
    seconds_replaying,
    first_new_step
from resumptions
where $run_name::varchar is null or run_name = $run_name
order by started_at, run_name, resumption
