-- The evaluation beyond the first one: outcomes of comparisons, calls that go through a Batch API, and
-- rankings that are asked for again.

-- one row per run, role and prompt of the run's evaluation sample that the role's system responded to
create view evaluated_generations as
select
    run_samples.run_name,
    run_systems.role,
    run_systems.system_id,
    prompts.subset,
    samples.prompt_id,
    samples.position,
    generations.generation_id,
    generations.text
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

-- one row per judge and ordered pair of generations it compared: how generation_id fared against against_id.
-- A pair that was shown in both orders is won or lost when both verdicts say so; two that differ are a tie
-- and inconsistent; where one is missing, the outcome is missing.
create view comparison_outcomes as
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
create view run_comparisons as
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

-- one row per plan to send calls through a Batch API, committed before anything is sent
create table batches (
    batch varchar primary key,        -- our name for it; it stands in the metadata at the provider
    run_name varchar not null,        -- who pays
    origin varchar not null,
    state varchar not null check (state in ('planned', 'uploaded', 'submitted', 'collected', 'failed')),
    input_file_id varchar,            -- the provider's names
    provider_batch_id varchar,
    failure varchar,
    planned_at timestamptz not null,
    submitted_at timestamptz,
    ended_at timestamptz
);

-- one row per batch and call in it; its attempt is in flight for as long as the batch is
create table batch_calls (
    batch varchar not null,
    call_key varchar not null,
    attempt bigint not null,
    primary key (batch, call_key)
);

-- one row per run, audit and ranking of the run that was asked for again under another permutation
create table audits (
    run_name varchar not null,
    audit_seed bigint not null,
    step integer not null,
    round integer not null,
    permutation integer[] not null,   -- permutation[i] = candidate id shown at position i
    ranking integer[],                -- candidate ids, best first; null when the answer could not be used
    reason varchar,                   -- why not
    call_key varchar not null,
    audited_at timestamptz not null,
    primary key (run_name, audit_seed, step, round)
);
