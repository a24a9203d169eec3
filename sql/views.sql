-- What the facts of sql/schema.sql come to: the tables of runs, rounds, rankings, calls and evaluations that questions
-- and exhibits use.

-- one row per run
create or replace view runs as
with forgotten as (
    select
        run_name,
        max(happened_at) as at_last
    from run_events
    where event = 'forgotten'
    group by run_name
),

registered as (
    select
        registrations.*,
        arg_max(operational_settings, registered_at) over named as last_settings,
        max(registered_at) over named as last_registered_at
    from registrations
    left join forgotten on registrations.run_name = forgotten.run_name
    where forgotten.at_last is null or registrations.registered_at > forgotten.at_last
    window named as (partition by registrations.run_name)
    qualify row_number() over (partition by registrations.run_name order by registrations.registered_at) = 1
),

states as (
    select
        run_events.run_name,
        arg_max(case event when 'began' then 'running' else event end, happened_at)
        filter (where event in ('began', 'paused', 'complete', 'incomplete', 'failed')) as state,
        arg_max({ 'reason': reason }, happened_at)
        filter (where event in ('began', 'paused', 'complete', 'incomplete', 'failed')) as why,
        arg_max({ 'host': process_host, 'id': process_id }, happened_at)
        filter (where event in ('began', 'paused', 'complete', 'incomplete', 'failed')) as process,
        arg_max(estimate::varchar, happened_at) filter (where event = 'estimated') as estimate,
        arg_max({ 'path': adapter_path, 'sha256': weights_sha256 }, happened_at)
        filter (where event = 'adapter') as adapter,
        max(happened_at) as at_last
    from run_events
    left join forgotten on run_events.run_name = forgotten.run_name
    where forgotten.at_last is null or run_events.happened_at > forgotten.at_last
    group by run_events.run_name
)

select
    registered.run_name,
    registered.profile,
    registered.seed,
    registered.settings,
    registered.settings_digest,
    registered.last_settings as operational_settings,
    registered.steps,
    coalesce(states.state, 'running') as state,
    states.why.reason as state_reason,
    states.process.host as process_host,
    states.process.id as process_id,
    registered.git_commit,
    registered.package_versions,
    registered.machine,
    states.estimate::json as estimate,
    registered.source_run,
    registered.kind,
    registered.baseline,
    states.adapter.path as adapter_path,
    states.adapter.sha256 as weights_sha256,
    registered.registered_at as created_at,
    greatest(registered.last_registered_at, states.at_last) as updated_at,
    case when states.state in ('complete', 'incomplete') then states.at_last end as finished_at
from registered
left join states on registered.run_name = states.run_name;

-- one row per prepared set of dialogues
create or replace view datasets as
select
    dataset_digest,
    source,
    location,
    options,
    prepared_at
from prepared_datasets;

-- one row per data set, subset and split: what was read and what is left (paper, Table 6)
create or replace view dataset_files as
select
    dataset_digest,
    unnest(files, max_depth := 2)
from prepared_datasets;

-- one row per data set, subset, split and reason for dropping a pair
create or replace view filter_drops as
select
    dataset_digest,
    unnest(drops, max_depth := 2)
from prepared_datasets;

-- one row per sample and position
create or replace view samples as
select
    sample_digest,
    purpose,
    dataset_digest,
    generate_subscripts(prompt_ids, 1) - 1 as position,
    unnest(prompt_ids) as prompt_id
from drawn_samples;

-- one row per run and purpose: the sample it uses
create or replace view run_samples as
select
    sample_uses.run_name,
    sample_uses.purpose,
    arg_max(sample_uses.sample_digest, sample_uses.used_at) as sample_digest
from sample_uses
left join runs on sample_uses.run_name = runs.run_name
where sample_uses.used_at >= coalesce(runs.created_at, sample_uses.used_at)
group by sample_uses.run_name, sample_uses.purpose;

-- one row per run, step and round
create or replace view rounds as
select
    sampled.run_name,
    sampled.step,
    sampled.round,
    sampled.wave,
    sampled.prompt_id,
    case
        when trained.run_name is not null then 'trained'
        when ranked.run_name is null then 'sampled'
        when ranked.answer is null then 'unranked'
        else 'ranked'
    end as state,
    ranked.unranked.reason as unranked_reason,
    ranked.unranked.detail as unranked_detail,
    ranked.call_key,
    ranked.asks,
    ranked.permutation,
    case when ranked.answer is not null then len(ranked.agreement) end as agreement_length,
    ranked.stops_step,
    trained.optimizer_step,
    trained.loss,
    trained.rank_loss,
    trained.sft_loss,
    trained.gradient_norm,
    trained.learning_rate,
    sampled.sampling_seconds,
    sampled.scoring_seconds,
    ranked.waiting_seconds,
    trained.seconds as training_seconds,
    sampled.sampled_at,
    ranked.ranked_at,
    trained.trained_at
from sampled_rounds as sampled
left join ranked_rounds as ranked
    on sampled.run_name = ranked.run_name and sampled.step = ranked.step and sampled.round = ranked.round
left join trained_rounds as trained
    on sampled.run_name = trained.run_name and sampled.step = trained.step and sampled.round = trained.round;

-- one row per run, step, round and slot: the candidates (slot = candidate id) and, in slot -1, the rewrite
create or replace view responses as
with slots as (
    select
        sampled.run_name,
        sampled.step,
        sampled.round,
        generate_subscripts(sampled.responses, 1) - 1 as slot,
        unnest(sampled.responses) as response,
        unnest(sampled.log_probabilities) as log_probability,
        sampled.white_box_ranking,
        ranked.answer.ranking as black_box_ranking
    from sampled_rounds as sampled
    left join ranked_rounds as ranked
        on sampled.run_name = ranked.run_name and sampled.step = ranked.step and sampled.round = ranked.round
)

select
    run_name,
    step,
    round,
    slot::integer as slot,
    'candidate' as kind,
    response.text as text,
    response.tokens as tokens,
    response.ended as ended,
    log_probability.total as log_probability,
    log_probability.total / log_probability.tokens as mean_log_probability,
    (list_position(black_box_ranking, slot) - 1)::integer as black_box_rank,
    (list_position(white_box_ranking, slot) - 1)::integer as white_box_rank
from slots
union all
select
    run_name,
    step,
    round,
    -1 as slot,
    'rewrite' as kind,
    answer.rewrite as text,
    null as tokens,
    null as ended,
    null as log_probability,
    null as mean_log_probability,
    null as black_box_rank,
    null as white_box_rank
from ranked_rounds
where answer is not null;

-- one row per run, step, round and ranker: candidate ids, best first
create or replace view rankings as
select
    run_name,
    step,
    round,
    'white_box' as ranker,
    white_box_ranking as ranking
from sampled_rounds
union all
select
    run_name,
    step,
    round,
    'black_box' as ranker,
    answer.ranking as ranking
from ranked_rounds
where answer is not null;

-- one row per run, step and round with an agreement
create or replace view pseudo_labels as
select
    run_name,
    step,
    round,
    agreement as ranking
from ranked_rounds
where len(agreement) > 0;

-- one row per run and demonstration admitted to its pool, oldest first; 0 = the static one
create or replace view demonstrations as
select
    run_name,
    admitted.number as demonstration,
    'dynamic' as kind,
    admitted.step as step,
    admitted.round as round,
    admitted.demonstration.instruction as instruction,
    admitted.demonstration.responses as responses,  -- in the order they are shown
    admitted.demonstration.ranking as ranking       -- positions in responses, best first
from ranked_rounds
where admitted is not null
union all
select
    run_name,
    0 as demonstration,
    'static' as kind,
    null as step,
    null as round,
    demonstration.instruction as instruction,
    demonstration.responses as responses,
    demonstration.ranking as ranking
from static_demonstrations;

-- one row per run, step, round and position: which demonstrations its ranking prompt showed, in order
create or replace view round_demonstrations as
select
    run_name,
    step,
    round,
    generate_subscripts(demonstrations_shown, 1) - 1 as position,
    unnest(demonstrations_shown) as demonstration
from ranked_rounds;

-- one row per candidate of a round and reward model
create or replace view response_rewards as
select
    run_name,
    step,
    round,
    (generate_subscripts(rewards, 1) - 1)::integer as slot,
    reward_model,
    unnest(rewards) as reward
from candidate_rewards;

-- one row per run, step, round and reward model that tells candidates apart which the black box ranked
create or replace view counted_pairs as
select
    run_name,
    step,
    round,
    reward_model,
    pairs,
    black_box_right,
    white_box_right
from candidate_rewards
where pairs > 0;

-- one row per time a call was sent
create or replace view api_attempts as
select
    attempts.attempt,
    attempts.call_key,
    attempts.run_name,
    attempts.purpose,
    attempts.model,
    case
        when outcomes.state is null then 'in_flight'
        when outcomes.state in ('failed', 'unknown') then outcomes.state
        when outcomes.failure is not null then 'failed'
        else 'answered'
    end as state,
    attempts.reserved_usd,
    outcomes.cost_usd,
    outcomes.failure,
    outcomes.http_status,
    outcomes.raw,
    attempts.started_at,
    outcomes.ended_at
from attempts
left join outcomes on attempts.attempt = outcomes.attempt and attempts.run_name = outcomes.run_name;

-- one row per attempt that brought something which stands: an answer, or the word that the endpoint takes no such call
create or replace view standing_outcomes as
with given_up as (
    select
        call_key,
        max(dismissed_at) as at_last
    from dismissals
    group by call_key
)

select outcomes.*
from outcomes
left join given_up on outcomes.call_key = given_up.call_key
where
    outcomes.state not in ('failed', 'unknown')
    and (given_up.at_last is null or outcomes.ended_at > given_up.at_last);

-- one row per distinct call: a request body at an endpoint in a slot. answered: content to be read; the other states
-- are never served as answers
create or replace view api_calls as
with asked as (
    select *
    from attempts
    qualify row_number() over (partition by call_key order by started_at, attempt) = 1
),

settled as (
    select *
    from standing_outcomes
    qualify
        row_number() over (
            partition by call_key
            order by
                state <> 'answered',
                case when state = 'answered' then ended_at end,
                ended_at desc
        ) = 1
),

judged as (
    select
        call_key,
        arg_max(verdict, read_at) as verdict
    from verdicts
    group by call_key
)

select
    asked.call_key,
    asked.run_name,
    asked.purpose,
    asked.model,
    asked.origin,
    asked.slot,
    asked.step,
    asked.round,
    asked.ask,
    asked.request,
    coalesce(settled.state, 'open') as state,
    settled.reply.raw as raw,
    settled.reply.content as content,
    settled.reply.refusal as refusal,
    settled.reply.finish_reason as finish_reason,
    settled.reply.model as served_model,
    settled.reply.prompt_tokens as prompt_tokens,
    settled.reply.completion_tokens as completion_tokens,
    settled.cost_usd,
    judged.verdict,
    asked.started_at as asked_at,
    settled.ended_at as answered_at
from asked
left join settled on asked.call_key = settled.call_key
left join judged on asked.call_key = judged.call_key;

-- one row per plan to send calls through a Batch API
create or replace view batches as
select
    batch,
    any_value(run_name) as run_name,
    any_value(origin) as origin,
    arg_max(state, happened_at) as state,
    arg_max(input_file_id, happened_at) filter (where input_file_id is not null) as input_file_id,
    any_value(provider_batch_id) as provider_batch_id,
    any_value(failure) as failure,
    min(happened_at) as planned_at,
    any_value(happened_at) filter (where state = 'submitted') as submitted_at,
    any_value(happened_at) filter (where state in ('collected', 'failed')) as ended_at
from batch_events
group by batch;

-- one row per batch and call in it; its attempt is in flight for as long as the batch is
create or replace view batch_calls as
select
    batch,
    unnest(calls, max_depth := 2)
from batch_events
where state = 'planned';

-- one row per run, audit and ranking of the run that was asked for again; one that could be read stays
create or replace view audits as
select *
from audited_rankings
qualify
    row_number() over (
        partition by run_name, audit_seed, step, round
        order by ranking is null, case when ranking is not null then audited_at end, audited_at desc
    ) = 1;

-- one row per time a process continued a run of which rounds were recorded
create or replace view resumptions as
select
    continuations.run_name,
    continuations.resumption,
    continuations.process_host,
    continuations.process_id,
    continuations.checkpoint_step,
    coalesce(sum(turns.rounds), 0)::integer as rounds_replayed,
    coalesce(sum(turns.optimizer_steps), 0)::integer as optimizer_steps_replayed,
    coalesce(sum(turns.seconds), 0.0) as seconds_replaying,
    min(turns.first_new_step) as first_new_step,
    continuations.started_at
from continuations
left join continued_turns as turns
    on continuations.run_name = turns.run_name and continuations.resumption = turns.resumption
group by all;

-- one row per system under evaluation, under its last label
create or replace view systems as
select
    system_id,
    arg_max(label, kept_at) as label,
    any_value(identity) as identity
from labelled_systems
group by system_id;

-- one row per run and role: the systems that its evaluation compares. All of them responded under the settings of the
-- one that took up its role last
create or replace view run_systems as
select
    system_roles.run_name,
    system_roles.role,
    system_roles.system_id,
    system_roles.generation_digest
from system_roles
left join runs on system_roles.run_name = runs.run_name
where system_roles.taken_at >= coalesce(runs.created_at, system_roles.taken_at)
qualify
    row_number() over (partition by system_roles.run_name, system_roles.role order by system_roles.taken_at desc) = 1
    and system_roles.generation_digest = first_value(system_roles.generation_digest) over (
        partition by system_roles.run_name
        order by system_roles.taken_at desc
    );

-- one row per pair of generations, judge and order of presentation; a person's is one per pair
create or replace view comparisons as
select *
from compared_pairs
qualify
    row_number() over (
        partition by comparison_id
        order by
            judge_kind <> 'person' and verdict = 'missing',
            case when judge_kind <> 'person' then compared_at end,
            compared_at desc
    ) = 1
    and verdict <> 'forgotten';

-- the same under its first name: counted when rewards are recorded
create or replace view ranked_pairs as
from counted_pairs;
