-- Notes which calls a planned batch holds and which attempts they are.
-- Parameters: $batch, $rows.
insert into batch_calls by name
select
    $batch::varchar as batch,
    unnest(cast($rows as struct(call_key varchar, attempt bigint)[]), max_depth := 2)
