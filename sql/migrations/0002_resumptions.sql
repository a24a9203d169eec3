-- What continuing a run did again: rounds recorded after its last checkpoint are trained on once more,
-- without sampling and without asking.

-- one row per time a process continued a run of which rounds were recorded
create table resumptions (
    run_name varchar not null,
    resumption integer not null,      -- 1, 2, … in the order of the run
    process_host varchar not null,
    process_id integer not null,
    process_started_at double not null,
    checkpoint_step integer not null, -- the first step that its checkpoint leaves to do; 0: it had none
    rounds_replayed integer not null, -- read back instead of sampled and asked
    optimizer_steps_replayed integer not null,
    seconds_replaying double not null, -- of those optimizer steps
    first_new_step integer,           -- of the first turn that was not replayed; null: it did not get there
    started_at timestamptz not null,
    primary key (run_name, resumption)
);
