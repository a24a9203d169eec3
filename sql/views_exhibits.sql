-- What exhibits share, over the tables and views of views.sql.

-- one row per run, role and prompt of the run's evaluation sample that the role's system responded to
create or replace view evaluated_generations as
select
    run_samples.run_name,
    run_systems.role,
    run_systems.system_id,
    prompts.subset,
    samples.prompt_id,
    samples.position,
    generations.generation_id,
    generations.text,
    generations.tokens,
    generations.ended,
    generations.repeated_4grams,
    generations.seconds
from run_samples
inner join samples on run_samples.sample_digest = samples.sample_digest
inner join prompts on samples.prompt_id = prompts.prompt_id
inner join run_systems on run_samples.run_name = run_systems.run_name
inner join generations
    on
        run_systems.system_id = generations.system_id
        and run_systems.generation_digest = generations.generation_digest
        and samples.prompt_id = generations.prompt_id
where run_samples.purpose = 'evaluation';

-- one row per evaluated generation and reward model that scored it; sigmoid_100 is 100 * sigmoid(reward), the
-- unit of the paper's Table 1
create or replace view evaluated_rewards as
select
    evaluated_generations.run_name,
    evaluated_generations.role,
    evaluated_generations.system_id,
    evaluated_generations.subset,
    evaluated_generations.prompt_id,
    evaluated_generations.position,
    evaluated_generations.text,
    reward_scores.reward_model,
    reward_scores.reward,
    -- written so that neither tail overflows
    100 * case
        when reward_scores.reward >= 0 then 1 / (1 + exp(-reward_scores.reward))
        else exp(reward_scores.reward) / (1 + exp(reward_scores.reward))
    end as sigmoid_100
from evaluated_generations
inner join reward_scores on evaluated_generations.generation_id = reward_scores.generation_id;

-- one row per subset and split of HH-RLHF: its pairs in the paper's Table 6, whose order is by position and
-- 'train' before 'test'
create or replace view paper_table_6 as
select sizes.* from (
    values
    (0, 'harmless-base', 'train', 42537),
    (0, 'harmless-base', 'test', 2312),
    (1, 'helpful-base', 'train', 43835),
    (1, 'helpful-base', 'test', 2354),
    (2, 'helpful-online', 'train', 22007),
    (2, 'helpful-online', 'test', 1137),
    (3, 'helpful-rejection-sampled', 'train', 52421),
    (3, 'helpful-rejection-sampled', 'test', 2749)
) as sizes (position, subset, split, pairs);

-- one row per judge and ordered pair of generations it compared: how generation_id fared against against_id.
-- A pair that was shown in both orders is won or lost when both verdicts say so; two that differ are a tie
-- and inconsistent; where one is missing, the outcome is missing.
create or replace view comparison_outcomes as
with sides as (
    select
        judge,
        judge_kind,
        first_generation_id as generation_id,
        second_generation_id as against_id,
        case verdict when 'first' then 'win' when 'second' then 'lose' else verdict end as outcome
    from comparisons
    union all
    select
        judge,
        judge_kind,
        second_generation_id as generation_id,
        first_generation_id as against_id,
        case verdict when 'second' then 'win' when 'first' then 'lose' else verdict end as outcome
    from comparisons
)

select
    judge,
    judge_kind,
    generation_id,
    against_id,
    count(*) as orders,
    case
        when bool_or(outcome = 'missing') then 'missing'
        when count(distinct outcome) = 1 then any_value(outcome)
        else 'tie'
    end as outcome,
    count(distinct outcome) > 1 and not bool_or(outcome = 'missing') as inconsistent
from sides
group by judge, judge_kind, generation_id, against_id;

-- one row per run, pair of roles, prompt of the evaluation sample and judge: how the system in role fared
-- against the other. The run's own trained model ('after') stands on the left, other pairs are in the order
-- of their labels.
create or replace view run_verdicts as
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
        and theirs.generation_id = comparison_outcomes.against_id;

-- the same, and for each model that judged the pair anywhere a row for every other prompt of the sample:
-- without a verdict, because the judge was not asked or one of the two did not respond, its outcome is
-- missing and its orders are 0
create or replace view run_comparisons as
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

-- one row per finished run of the cycle: the choices in which ablations differ, and a digest of all its other
-- settings but the seed, which is equal where runs may be set beside each other
create or replace view finished_cycles as
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
where kind = 'cycle' and state in ('complete', 'incomplete');

-- of those with the same settings and seed the earliest
create or replace view varied_runs as
select finished_cycles.*
from finished_cycles
inner join runs on finished_cycles.run_name = runs.run_name
qualify row_number() over (partition by runs.settings_digest order by runs.created_at, runs.run_name) = 1;

-- one row per finished run of the cycle, reward model and subset ('all': over all responses): the choices in
-- which ablations differ, and the mean rewards of its held-out responses before and after. Part of the digest
-- of its other settings is how a run was evaluated last: on which prompts, and how responses were generated
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
),

means as (
    select
        run_name,
        reward_model,
        coalesce(subset, 'all') as subset,
        count(*) filter (where role = 'after') as responses,
        avg(reward) filter (where role = 'before') as reward_before,
        avg(reward) filter (where role = 'after') as reward_after,
        avg(sigmoid_100) filter (where role = 'before') as sigmoid_before_100,
        avg(sigmoid_100) filter (where role = 'after') as sigmoid_after_100
    from evaluated_rewards
    where run_name in (select varied_runs.run_name from varied_runs)
    group by run_name, reward_model, rollup (subset)
)

select
    varied_runs.profile,
    md5(varied_runs.other_settings || evaluated.prompts || evaluated.generation_digest)[1:8]
        as other_settings,
    varied_runs.objective,
    varied_runs.icl,
    varied_runs.rewrite,
    varied_runs.rounds,
    varied_runs.seed,
    means.*
from varied_runs
inner join evaluated on varied_runs.run_name = evaluated.run_name
inner join means on varied_runs.run_name = means.run_name;

-- what calls came to, by their keys: a call's first answer, where it has none its first other outcome. A window over
-- all outcomes would take seconds on a large ledger
create or replace macro outcomes_of(call_keys) as table
    select outcomes.*
    from standing_outcomes as outcomes
    where outcomes.call_key in (select unnest(call_keys))
    qualify
        row_number() over (
            partition by outcomes.call_key
            order by outcomes.state <> 'answered', outcomes.ended_at
        ) = 1;
