-- A process continues a run; of a run without recorded rounds nothing is noted: there is nothing to continue.
-- Parameters: $run_name, $process_host, $process_id, $process_started_at, $checkpoint_step.
-- One row per resumption begun, at most one: its number.
insert into resumptions (
    run_name,
    resumption,
    process_host,
    process_id,
    process_started_at,
    checkpoint_step,
    rounds_replayed,
    optimizer_steps_replayed,
    seconds_replaying,
    started_at
)
select
    $run_name,
    (
        select coalesce(max(earlier.resumption), 0) + 1
        from resumptions as earlier
        where earlier.run_name = $run_name
    ),
    $process_host,
    $process_id,
    $process_started_at,
    $checkpoint_step,
    0,
    0,
    0.0,
    now()
where exists (select 1 from rounds where rounds.run_name = $run_name)
returning resumption
