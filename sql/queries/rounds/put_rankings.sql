-- Records rankings of candidates, best first, by one of the two rankers.
-- Parameters: $run_name, $ranker, $rows.
insert into rankings by name
select
    $run_name::varchar as run_name,
    $ranker::varchar as ranker,
    unnest(cast($rows as struct(step integer, round integer, ranking integer[])[]), max_depth := 2)
