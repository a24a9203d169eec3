-- Keeps prompts; one that is known stays as it is, its id being derived from its text.
-- Parameters: $rows.
insert into prompts by name
select
    unnest(
        cast(
            $rows as struct(
                prompt_id varchar,
                subset varchar,
                split varchar,
                turns struct(speaker varchar, text varchar)[],
                instruction varchar,
                chosen varchar,
                rejected varchar
            )[]
        ),
        max_depth := 2
    )
on conflict do nothing
