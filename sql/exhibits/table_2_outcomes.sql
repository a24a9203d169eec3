-- How each prompt was decided by the judge that compared two systems: what Table 2 adds up (paper, Table 2).
-- Parameters: $run_name (null: every run).
-- One row per run, judge, pair of roles and prompt of the evaluation sample. The run's own trained model
-- ('after') stands on the left, other pairs are in the order of their labels. Outcomes are the left one's:
-- win, tie, lose or missing; inconsistent ones were decided differently in the two orders and count as ties.
select
    ours.run_name,
    comparison_outcomes.judge,
    ours.role,
    theirs.role as against,
    ours.subset,
    ours.prompt_id,
    comparison_outcomes.orders,
    comparison_outcomes.outcome,
    comparison_outcomes.inconsistent
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
order by ours.run_name, comparison_outcomes.judge, ours.role, theirs.role, ours.position;
