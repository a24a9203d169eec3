-- Records demonstrations that a run's pool admitted.
-- Parameters: $run_name, $kind, $rows.
insert into demonstrations by name
select
    $run_name::varchar as run_name,
    $kind::varchar as kind,
    unnest(
        cast(
            $rows as struct(
                demonstration integer,
                step integer,
                round integer,
                instruction varchar,
                responses varchar[],
                ranking integer[]
            )[]
        ),
        max_depth := 2
    )
