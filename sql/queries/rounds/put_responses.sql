-- Records the candidates of rounds with the white box's confidence in them.
-- Parameters: $run_name, $rows.
insert into responses by name
select
    $run_name::varchar as run_name,
    'candidate' as kind,
    unnest(
        cast(
            $rows as struct(
                step integer,
                round integer,
                slot integer,
                text varchar,
                tokens integer[],
                ended boolean,
                log_probability double,
                mean_log_probability double,
                white_box_rank integer
            )[]
        ),
        max_depth := 2
    )
