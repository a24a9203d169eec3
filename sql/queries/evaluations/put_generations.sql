-- Keeps generations; one that is there stays as it is.
-- Parameters: $rows.
insert into generations by name
select
    now() as created_at,
    unnest(
        cast(
            $rows as struct(
                generation_id varchar,
                system_id varchar,
                prompt_id varchar,
                generation_digest varchar,
                settings json,
                text varchar,
                tokens integer,
                ended boolean,
                repeated_4grams double,
                seconds double
            )[]
        ),
        max_depth := 2
    )
on conflict do nothing
