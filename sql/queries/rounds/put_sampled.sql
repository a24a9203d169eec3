-- Records that rounds were sampled.
-- Parameters: $run_name, $rows.
insert into rounds by name
select
    $run_name::varchar as run_name,
    'sampled' as state,
    now() as sampled_at,
    unnest(
        cast(
            $rows as struct(
                step integer,
                round integer,
                wave integer,
                prompt_id varchar,
                sampling_seconds double,
                scoring_seconds double
            )[]
        ),
        max_depth := 2
    )
