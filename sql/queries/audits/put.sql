-- Keeps what an audit brought; a ranking that is there stays as it is.
-- Parameters: $run_name, $audit_seed, $rows.
insert into audits by name
select
    $run_name::varchar as run_name,
    $audit_seed::bigint as audit_seed,
    now() as audited_at,
    unnest(
        cast(
            $rows as struct(
                step integer,
                round integer,
                permutation integer[],
                ranking integer[],
                reason varchar,
                call_key varchar
            )[]
        ),
        max_depth := 2
    )
on conflict (run_name, audit_seed, step, round) do update set
    permutation = excluded.permutation,
    ranking = excluded.ranking,
    reason = excluded.reason,
    call_key = excluded.call_key,
    audited_at = excluded.audited_at
where audits.ranking is null
