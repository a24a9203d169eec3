-- Runs that learn from what another run recorded (refold) or from the data set's own preferences (baseline).

-- what a run is: cycle (it samples and asks), refold, or baseline
alter table runs add column kind varchar default 'cycle';

-- which baseline: sft, rrhf, pro, dpo or rl; null for other kinds
alter table runs add column baseline varchar;

-- one row per run without rounds and optimizer step (0-based)
create table optimizer_steps (
    run_name varchar not null,
    optimizer_step integer not null,
    examples integer not null,        -- prompts that took part in it
    loss double not null,             -- as the method defines it; not comparable between methods
    rank_loss double,                 -- null where the loss has no such part
    sft_loss double,
    reward double,                    -- mean reward of the responses it sampled; null where it samples none
    gradient_norm double,             -- before clipping
    learning_rate double not null,
    seconds double not null,
    trained_at timestamptz not null,
    primary key (run_name, optimizer_step)
);

-- one row per finished run of the cycle: the choices in which ablations differ, and a digest of all its other
-- settings but the seed, which is equal where runs may be set beside each other
create view varied_runs as
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
where kind = 'cycle' and state = 'complete';

-- one row per finished run of the cycle, reward model and subset ('all': over all responses): mean rewards of
-- its held-out responses before and after
create view varied_run_rewards as
with scored as (
    select
        evaluated_generations.run_name,
        evaluated_generations.role,
        evaluated_generations.subset,
        reward_scores.reward_model,
        reward_scores.reward,
        -- written so that neither tail overflows
        100 * case
            when reward_scores.reward >= 0 then 1 / (1 + exp(-reward_scores.reward))
            else exp(reward_scores.reward) / (1 + exp(reward_scores.reward))
        end as sigmoid_100
    from evaluated_generations
    inner join reward_scores on evaluated_generations.generation_id = reward_scores.generation_id
)

select
    varied_runs.run_name,
    scored.reward_model,
    coalesce(scored.subset, 'all') as subset,
    count(*) filter (where scored.role = 'after') as responses,
    avg(scored.reward) filter (where scored.role = 'before') as reward_before,
    avg(scored.reward) filter (where scored.role = 'after') as reward_after,
    avg(scored.sigmoid_100) filter (where scored.role = 'before') as sigmoid_before_100,
    avg(scored.sigmoid_100) filter (where scored.role = 'after') as sigmoid_after_100
from varied_runs
inner join scored on varied_runs.run_name = scored.run_name
group by
    grouping sets (
        (varied_runs.run_name, scored.reward_model, scored.subset),
        (varied_runs.run_name, scored.reward_model)
    );
