-- Records optimizer steps of a run without rounds; the record of one that is repeated stays.
-- Parameters: $run_name, $rows.
insert into optimizer_steps by name
select
    $run_name::varchar as run_name,
    now() as trained_at,
    unnest(
        cast(
            $rows as struct(
                optimizer_step integer,
                examples integer,
                loss double,
                rank_loss double,
                sft_loss double,
                reward double,
                gradient_norm double,
                learning_rate double,
                seconds double
            )[]
        ),
        max_depth := 2
    )
on conflict do nothing
