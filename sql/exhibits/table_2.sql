-- Win, tie and lose of two systems before a judge (paper, Table 2).
-- Parameters: $run_name (null: every run).
-- One row per run, judge, pair of roles and subset; subset 'all' is over all prompts. The run's own trained
-- model ('after') stands on the left, other pairs are in the order of their labels. Shares are percent of all
-- prompts, missing ones included: win, tie, lose and missing add up to 100. Inconsistent prompts were decided
-- differently in the two orders and count as ties.
select
    run_name,
    judge,
    role,
    against,
    coalesce(subset, 'all') as subset,
    count(*) as prompts,
    100 * avg((outcome = 'win')::integer) as win,
    100 * avg((outcome = 'tie')::integer) as tie,
    100 * avg((outcome = 'lose')::integer) as lose,
    100 * avg((outcome = 'missing')::integer) as missing,
    100 * avg(inconsistent::integer) as inconsistent
from run_comparisons
where judge_kind = 'model' and ($run_name::varchar is null or run_name = $run_name)
group by run_name, judge, role, against, rollup (subset)
order by run_name, judge, role, against, subset;
