-- Win, tie and lose of two systems before a judge (paper, Table 2).
-- Parameters: $run_name (null: every run).
-- One row per run, judge, pair of roles and subset; subset 'all' is over all prompts. The run's own trained
-- model ('after') stands on the left, other pairs are in the order of their labels. Shares are percent of all
-- prompts, missing ones included: win, tie, lose and missing add up to 100. Inconsistent prompts were decided
-- differently in the two orders and count as ties.
select
    ours.run_name,
    comparison_outcomes.judge,
    ours.role,
    theirs.role as against,
    coalesce(ours.subset, 'all') as subset,
    count(*) as prompts,
    100 * avg((comparison_outcomes.outcome = 'win')::integer) as win,
    100 * avg((comparison_outcomes.outcome = 'tie')::integer) as tie,
    100 * avg((comparison_outcomes.outcome = 'lose')::integer) as lose,
    100 * avg((comparison_outcomes.outcome = 'missing')::integer) as missing,
    100 * avg(comparison_outcomes.inconsistent::integer) as inconsistent
from evaluated_generations as ours
inner join evaluated_generations as theirs
    on
        ours.run_name = theirs.run_name
        and ours.prompt_id = theirs.prompt_id
        and theirs.role <> 'after'
        and (ours.role = 'after' or ours.role < theirs.role)
inner join comparison_outcomes
    on
        ours.generation_id = comparison_outcomes.generation_id
        and theirs.generation_id = comparison_outcomes.against_id
where
    comparison_outcomes.judge_kind = 'model'
    and ($run_name::varchar is null or ours.run_name = $run_name)
group by
    grouping sets (
        (ours.run_name, comparison_outcomes.judge, ours.role, theirs.role, ours.subset),
        (ours.run_name, comparison_outcomes.judge, ours.role, theirs.role)
    )
order by ours.run_name, comparison_outcomes.judge, ours.role, theirs.role, subset;
