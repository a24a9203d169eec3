-- Records agreement rankings: the longest common subsequence of the two rankings, best first.
-- Parameters: $run_name, $rows.
insert into pseudo_labels by name
select
    $run_name::varchar as run_name,
    unnest(cast($rows as struct(step integer, round integer, ranking integer[])[]), max_depth := 2)
