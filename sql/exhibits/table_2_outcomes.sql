-- How each prompt was decided by the judge that compared two systems: what Table 2 adds up (paper, Table 2).
-- Parameters: $run_name (null: every run).
-- One row per run, judge, pair of roles and prompt of the evaluation sample. The run's own trained model
-- ('after') stands on the left, other pairs are in the order of their labels. Outcomes are the left one's:
-- win, tie, lose or missing; inconsistent ones were decided differently in the two orders and count as ties.
select
    run_name,
    judge,
    role,
    against,
    subset,
    prompt_id,
    orders,
    outcome,
    inconsistent
from run_comparisons
where judge_kind = 'model' and ($run_name::varchar is null or run_name = $run_name)
order by run_name, judge, role, against, position;
