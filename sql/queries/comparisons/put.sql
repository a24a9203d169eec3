-- Keeps verdicts; one that is there stays as it is, unless it was missing.
-- Parameters: $rows.
insert into comparisons by name
select
    now() as compared_at,
    unnest(
        cast(
            $rows as struct(
                comparison_id varchar,
                first_generation_id varchar,
                second_generation_id varchar,
                judge varchar,
                judge_kind varchar,
                verdict varchar,
                reason varchar,
                call_key varchar
            )[]
        ),
        max_depth := 2
    )
on conflict (comparison_id) do update set
    verdict = excluded.verdict,
    reason = excluded.reason,
    call_key = excluded.call_key,
    compared_at = excluded.compared_at
where comparisons.verdict = 'missing'
