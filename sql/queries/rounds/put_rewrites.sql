-- Records the black box's own responses, in slot -1 of their rounds.
-- Parameters: $run_name, $rows.
insert into responses by name
select
    $run_name::varchar as run_name,
    -1 as slot,
    'rewrite' as kind,
    unnest(cast($rows as struct(step integer, round integer, text varchar)[]), max_depth := 2)
