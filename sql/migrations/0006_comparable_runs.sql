-- Runs are set beside each other only where that is fair: a run counts once, whatever its names, beside runs
-- that were evaluated like it; and a judge's verdicts cover the whole evaluation sample.

-- one row per finished run of the cycle
alter view varied_runs rename to finished_cycles;

-- of those with the same settings and seed the earliest
create view varied_runs as
select finished_cycles.*
from finished_cycles
inner join runs on finished_cycles.run_name = runs.run_name
qualify row_number() over (partition by runs.settings_digest order by runs.created_at, runs.run_name) = 1;

-- one row per finished run of the cycle, reward model and subset, whatever it was evaluated on
alter view ablation_rewards rename to varied_rewards;

-- part of the digest of its other settings is how a run was evaluated last: on which prompts, and how
-- responses were generated
create view ablation_rewards as
with evaluated as (
    select
        run_samples.run_name,
        md5(string_agg(samples.prompt_id, ' ' order by samples.prompt_id)) as prompts,
        any_value(run_systems.generation_digest) as generation_digest
    from run_samples
    inner join samples on run_samples.sample_digest = samples.sample_digest
    inner join run_systems on run_samples.run_name = run_systems.run_name and run_systems.role = 'after'
    where run_samples.purpose = 'evaluation'
    group by run_samples.run_name
)

select
    varied_rewards.* replace (
        md5(varied_rewards.other_settings || evaluated.prompts || evaluated.generation_digest)[1:8]
            as other_settings
    )
from varied_rewards
inner join evaluated on varied_rewards.run_name = evaluated.run_name;

-- one row per run, pair of roles, prompt of the evaluation sample and judge that has a verdict
alter view run_comparisons rename to run_verdicts;

-- the same, and for each model that judged the pair anywhere a row for every other prompt of the sample:
-- without a verdict, because nobody asked or one of the two did not respond, its outcome is missing and its
-- orders are 0
create view run_comparisons as
with judged as (
    select distinct
        run_name,
        judge,
        judge_kind,
        role,
        against
    from run_verdicts
    where judge_kind = 'model'
),

expected as (
    select
        judged.run_name,
        judged.judge,
        judged.judge_kind,
        judged.role,
        judged.against,
        prompts.subset,
        samples.prompt_id,
        samples.position,
        0 as orders,
        'missing' as outcome,
        false as inconsistent
    from judged
    inner join run_samples on judged.run_name = run_samples.run_name and run_samples.purpose = 'evaluation'
    inner join samples on run_samples.sample_digest = samples.sample_digest
    inner join prompts on samples.prompt_id = prompts.prompt_id
)

select run_verdicts.*
from run_verdicts
union all
select expected.*
from expected
anti join run_verdicts
    on
        expected.run_name = run_verdicts.run_name
        and expected.judge = run_verdicts.judge
        and expected.role = run_verdicts.role
        and expected.against = run_verdicts.against
        and expected.prompt_id = run_verdicts.prompt_id;
