-- Runs are set beside each other only where that is fair: a run counts once, whatever its names, beside runs
-- that were evaluated like it; and a judge's verdicts cover the whole evaluation sample.

-- one row per finished run of the cycle, the earliest of those with the same settings and seed: the choices
-- in which ablations differ, and a digest of all its other settings but the seed, which is equal where runs
-- may be set beside each other
create or replace view varied_runs as
select
    run_name,
    profile,
    seed,
    steps,
    settings ->> '$.method.objective' as objective,
    settings ->> '$.method.icl' as icl,
    settings ->> '$.method.rewrite' as rewrite,
    (settings ->> '$.method.rounds')::integer as rounds,
    md5(
        json_merge_patch(
            settings,
            '{"seed": null, "method": {"objective": null, "icl": null, "rewrite": null, "rounds": null}}'
        )::varchar
    )[1:8] as other_settings
from runs
where kind = 'cycle' and state = 'complete'
qualify row_number() over (partition by settings_digest order by created_at, run_name) = 1;

-- one row per finished run of the cycle, reward model and subset ('all': over all responses): the choices in
-- which ablations differ, and the mean rewards of its held-out responses before and after. Part of the
-- digest of its other settings is how it was evaluated last: on which prompts, and how responses were
-- generated
create or replace view ablation_rewards as
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
    varied_runs.profile,
    md5(
        varied_runs.other_settings || evaluated.prompts || evaluated.generation_digest
    )[1:8] as other_settings,
    varied_runs.objective,
    varied_runs.icl,
    varied_runs.rewrite,
    varied_runs.rounds,
    varied_runs.seed,
    varied_run_rewards.run_name,
    varied_run_rewards.reward_model,
    varied_run_rewards.subset,
    varied_run_rewards.responses,
    varied_run_rewards.reward_before,
    varied_run_rewards.reward_after,
    varied_run_rewards.sigmoid_before_100,
    varied_run_rewards.sigmoid_after_100
from varied_runs
inner join varied_run_rewards on varied_runs.run_name = varied_run_rewards.run_name
inner join evaluated on varied_runs.run_name = evaluated.run_name;

-- one row per run, pair of roles, prompt of the evaluation sample and judge: how the system in role fared
-- against the other. The run's own trained model ('after') stands on the left, other pairs are in the order
-- of their labels. A model that judged the pair anywhere has a row for every prompt of the sample: without a
-- verdict, because nobody asked or one of the two did not respond, its outcome is missing and its orders are
-- 0.
create or replace view run_comparisons as
with found as (
    select
        ours.run_name,
        comparison_outcomes.judge,
        comparison_outcomes.judge_kind,
        ours.role,
        theirs.role as against,
        ours.subset,
        ours.prompt_id,
        ours.position,
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
),

judged as (
    select distinct
        run_name,
        judge,
        judge_kind,
        role,
        against
    from found
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

select found.*
from found
union all
select expected.*
from expected
anti join found
    on
        expected.run_name = found.run_name
        and expected.judge = found.judge
        and expected.role = found.role
        and expected.against = found.against
        and expected.prompt_id = found.prompt_id;
