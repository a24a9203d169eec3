-- What people said of each prompt, and model judges beside them: what Table 3 adds up (paper, Table 3).
-- Parameters: $run_name (null: every run).
-- One row per run, pair of roles that people compared, prompt of the evaluation sample, and judge (a person
-- or a model). The run's own trained model ('after') stands on the left, other pairs are in the order of
-- their labels. Outcomes are the left one's: win, tie or lose; models' missing ones are left out.
-- The agreement of annotators is computed from these rows (cyclealign/kappa.py).
select
    run_name,
    role,
    against,
    subset,
    prompt_id,
    judge,
    judge_kind,
    outcome
from run_comparisons
where
    judge_kind in ('person', 'model')
    and outcome <> 'missing'
    and ($run_name::varchar is null or run_name = $run_name)
qualify bool_or(judge_kind = 'person') over (partition by run_name, role, against)
order by run_name, role, against, position, judge_kind, judge;
