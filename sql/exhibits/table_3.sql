-- Win, tie and lose of two systems before people (paper, Table 3).
-- Parameters: $run_name (null: every run).
-- One row per run, pair of roles and subset; subset 'all' is over all prompts. The run's own trained model
-- ('after') stands on the left, other pairs are in the order of their labels. Shares are percent of the
-- prompts that somebody judged. A prompt counts once, however many annotators it had: its win is the share of
-- them who preferred the left one. verdicts is how many there are in all.
with verdicts as (
    select
        ours.run_name,
        ours.role as ours,
        theirs.role as theirs,
        ours.subset,
        ours.prompt_id,
        comparison_outcomes.judge,
        (comparison_outcomes.outcome = 'win')::integer as win,
        (comparison_outcomes.outcome = 'tie')::integer as tie,
        (comparison_outcomes.outcome = 'lose')::integer as lose,
        count(*) over (partition by ours.generation_id, theirs.generation_id) as annotators_of_prompt
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
        comparison_outcomes.judge_kind = 'person'
        and ($run_name::varchar is null or ours.run_name = $run_name)
)

select
    verdicts.run_name,
    verdicts.ours as role,  -- noqa: RF04
    verdicts.theirs as against,
    coalesce(verdicts.subset, 'all') as subset,
    count(distinct verdicts.judge) as annotators,
    count(*) as verdicts,
    count(distinct verdicts.prompt_id) as prompts,
    100 * sum(verdicts.win / verdicts.annotators_of_prompt) / count(distinct verdicts.prompt_id) as win,
    100 * sum(verdicts.tie / verdicts.annotators_of_prompt) / count(distinct verdicts.prompt_id) as tie,
    100 * sum(verdicts.lose / verdicts.annotators_of_prompt) / count(distinct verdicts.prompt_id) as lose
from verdicts
group by
    grouping sets (
        (verdicts.run_name, verdicts.ours, verdicts.theirs, verdicts.subset),
        (verdicts.run_name, verdicts.ours, verdicts.theirs)
    )
order by verdicts.run_name, verdicts.ours, verdicts.theirs, subset = 'all', subset;
