-- What people said of each prompt, and model judges beside them: what Table 3 adds up (paper, Table 3).
-- Parameters: $run_name (null: every run).
-- One row per run, pair of roles that people compared, prompt of the evaluation sample, and judge (a person
-- or a model). The run's own trained model ('after') stands on the left, other pairs are in the order of
-- their labels. Outcomes are the left one's: win, tie or lose; models' missing ones are left out.
-- The agreement of annotators is computed from these rows (cyclealign/kappa.py).
with outcomes as (
    select
        ours.run_name,
        ours.role as ours,
        theirs.role as theirs,
        ours.subset,
        ours.prompt_id,
        ours.position,
        comparison_outcomes.judge,
        comparison_outcomes.judge_kind,
        comparison_outcomes.outcome
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
        comparison_outcomes.judge_kind in ('person', 'model')
        and comparison_outcomes.outcome <> 'missing'
        and ($run_name::varchar is null or ours.run_name = $run_name)
)

select
    outcomes.run_name,
    outcomes.ours as role,  -- noqa: RF04
    outcomes.theirs as against,
    outcomes.subset,
    outcomes.prompt_id,
    outcomes.judge,
    outcomes.judge_kind,
    outcomes.outcome
from outcomes
qualify
    bool_or(outcomes.judge_kind = 'person') over (
        partition by outcomes.run_name, outcomes.ours, outcomes.theirs
    )
order by
    outcomes.run_name, outcomes.ours, outcomes.theirs, outcomes.position, outcomes.judge_kind, outcomes.judge;
