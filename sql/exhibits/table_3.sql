-- Win, tie and lose of two systems before people (paper, Table 3).
-- Parameters: $run_name (null: every run).
-- One row per run, pair of roles and subset; subset 'all' is over all prompts. The run's own trained model
-- ('after') stands on the left, other pairs are in the order of their labels. Shares are percent of the
-- prompts that people judged. A prompt counts once, however many annotators it had: its win is the share of
-- them who preferred the left one. verdicts is how many there are in all.
with verdicts as (
    select
        run_name,
        role,
        against,
        subset,
        prompt_id,
        judge,
        (outcome = 'win')::integer as win,
        (outcome = 'tie')::integer as tie,
        (outcome = 'lose')::integer as lose,
        count(*) over (partition by run_name, role, against, prompt_id) as annotators_of_prompt
    from run_comparisons
    where judge_kind = 'person' and ($run_name::varchar is null or run_name = $run_name)
)

select
    run_name,
    role,
    against,
    coalesce(subset, 'all') as subset,
    count(distinct judge) as annotators,
    count(*) as verdicts,
    count(distinct prompt_id) as prompts,
    100 * sum(win / annotators_of_prompt) / count(distinct prompt_id) as win,
    100 * sum(tie / annotators_of_prompt) / count(distinct prompt_id) as tie,
    100 * sum(lose / annotators_of_prompt) / count(distinct prompt_id) as lose
from verdicts
group by run_name, role, against, rollup (subset)
order by run_name, role, against, subset = 'all', subset;
