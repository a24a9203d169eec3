-- The tables of facts, insert-only. A table's comment names its key: a fact that is there stays as it is. Its only
-- timestamptz says when the fact was recorded. What changes over time is a view (views.sql).
-- Best first everywhere; rank 0 = best; log-probabilities in nats; money in US dollars; times in seconds.

-- how many bytes of which journal this ledger holds
create table postings (journal varchar, bytes bigint);

-- one row per time a run was registered: a resolved profile under a name
create table registrations (
    run_name varchar,
    profile varchar,
    seed bigint,
    settings json,                    -- influential settings only, see cyclealign/settings.py
    settings_digest varchar,
    operational_settings json,        -- the last ones stand
    steps integer,
    git_commit varchar,
    package_versions json,
    machine json,
    source_run varchar,               -- the run whose data this one trains on
    kind varchar,                     -- cycle, refold or baseline
    baseline varchar,                 -- sft, rrhf, pro, dpo or rl
    registered_at timestamptz
);
comment on table registrations is 'key: run_name, registered_at';

-- one row per thing that happened to a run: began, paused, complete, failed, estimated, adapter or forgotten
create table run_events (
    run_name varchar,
    event varchar,
    reason varchar,                   -- why it paused or failed
    process_host varchar,
    process_id integer,
    estimate json,                    -- printed before the first paid call
    adapter_path varchar,
    weights_sha256 varchar,
    happened_at timestamptz
);
comment on table run_events is 'key: run_name, event, happened_at';

-- one row per prepared set of dialogues: a source under one choice of filters, and what was read, kept and dropped
create table prepared_datasets (
    dataset_digest varchar,
    source varchar,
    location varchar,
    options json,
    files struct(subset varchar, split varchar, rows_read bigint, pairs_kept bigint)[],
    drops struct(subset varchar, split varchar, reason varchar, pairs_dropped bigint)[],
    prepared_at timestamptz
);
comment on table prepared_datasets is 'key: dataset_digest';

-- one row per prompt that any sample uses; its id is derived from its text
create table prompts (
    prompt_id varchar,
    subset varchar,
    split varchar,
    turns struct(speaker varchar, text varchar)[],
    instruction varchar,              -- the dialogue as the ranking prompt shows it
    chosen varchar,                   -- the data set's own replies, for baselines
    rejected varchar,
    kept_at timestamptz
);
comment on table prompts is 'key: prompt_id';

-- one row per sample: which prompts a run trains on or is evaluated on, in order
create table drawn_samples (
    sample_digest varchar,
    purpose varchar,                  -- training or evaluation
    dataset_digest varchar,
    prompt_ids varchar[],
    drawn_at timestamptz
);
comment on table drawn_samples is 'key: sample_digest';

-- one row per time a run took up a sample; the last one for a purpose stands
create table sample_uses (
    run_name varchar,
    purpose varchar,
    sample_digest varchar,
    used_at timestamptz
);
comment on table sample_uses is 'key: run_name, purpose, used_at';

-- one row per run, step and round whose candidates were sampled and scored (steps are 0-based, rounds 1-based)
create table sampled_rounds (
    run_name varchar,
    step integer,
    round integer,
    wave integer,
    prompt_id varchar,
    cut boolean,                      -- the prompt was too long for the white box: a part of it is missing
    responses struct(text varchar, tokens integer[], ended boolean)[],  -- by candidate id
    log_probabilities struct(total double, tokens integer)[],             -- under the weights that sampled
    white_box_ranking integer[],
    sampling_seconds double,          -- of the wave, shared equally among its rounds
    scoring_seconds double,
    sampled_at timestamptz
);
comment on table sampled_rounds is 'key: run_name, step, round';

-- one row per run, step and round that the black box ranked, or could not be made to rank
create table ranked_rounds (
    run_name varchar,
    step integer,
    round integer,
    answer struct(ranking integer[], rewrite varchar),  -- null: see unranked
    unranked struct(reason varchar, detail varchar),
    call_key varchar,                 -- the call whose answer was accepted
    asks integer,
    permutation integer[],            -- permutation[i] = candidate id shown at position i
    demonstrations_shown integer[],   -- their numbers, in the order of the ranking prompt
    agreement integer[],              -- longest common subsequence of the two rankings
    stops_step boolean,               -- the two rankings are identical, or the last round
    admitted struct(
        number integer,
        step integer,
        round integer,
        demonstration struct(instruction varchar, responses varchar[], ranking integer[])
    ),
    waiting_seconds double,
    ranked_at timestamptz
);
comment on table ranked_rounds is 'key: run_name, step, round';

-- one row per run, step and round that took part in an optimizer step
create table trained_rounds (
    run_name varchar,
    step integer,
    round integer,
    optimizer_step integer,           -- 0-based
    loss double,                      -- rank_loss + lambda * sft_loss of this prompt
    rank_loss double,
    sft_loss double,
    gradient_norm double,             -- before clipping; of the whole optimizer step
    learning_rate double,
    seconds double,
    trained_at timestamptz
);
comment on table trained_rounds is 'key: run_name, step, round';

-- one row per run: the demonstration that all its ranking prompts show
create table static_demonstrations (
    run_name varchar,
    demonstration struct(instruction varchar, responses varchar[], ranking integer[]),
    recorded_at timestamptz
);
comment on table static_demonstrations is 'key: run_name';

-- one row per run, step, round and reward model: the rewards of the candidates, and the pairs of candidates with
-- different rewards that each ranker has in the rewards' order (Figure 4)
create table candidate_rewards (
    run_name varchar,
    step integer,
    round integer,
    reward_model varchar,
    rewards double[],                 -- by candidate id
    pairs integer,                    -- null where the black box did not rank
    black_box_right integer,
    white_box_right integer,
    scored_at timestamptz
);
comment on table candidate_rewards is 'key: run_name, step, round, reward_model';

-- one row per time a call is sent, committed before it is
create table attempts (
    attempt bigint,
    call_key varchar,                 -- digest of request body, endpoint and slot
    run_name varchar,                 -- who pays
    purpose varchar,
    model varchar,
    origin varchar,
    slot json,
    step integer,
    round integer,
    ask integer,
    request json,
    reserved_usd decimal(18, 9),      -- the worst case
    started_at timestamptz
);
comment on table attempts is 'key: attempt';

-- one row per attempt that has come to its end
create table outcomes (
    attempt bigint,
    call_key varchar,
    run_name varchar,
    state varchar,                    -- answered, refused, truncated, rejected, failed or unknown
    reply struct(
        raw varchar, content varchar, refusal varchar, finish_reason varchar, model varchar,
        prompt_tokens bigint, completion_tokens bigint
    ),
    failure varchar,                  -- kind of failure, for example rate_limit
    http_status integer,
    raw varchar,                      -- a body with status 200 that could not be read; maybe paid for
    cost_usd decimal(18, 9),          -- unknown attempts cost their reserve
    ended_at timestamptz
);
comment on table outcomes is 'key: attempt';

-- one row per time an answer was read; the last verdict stands
create table verdicts (
    call_key varchar,
    verdict varchar,                  -- accepted, or why not
    read_at timestamptz
);
comment on table verdicts is 'key: call_key, read_at';

-- one row per time an endpoint was tried under settings: what it takes of their parameters
create table probes (
    origin varchar,
    model varchar,
    parameters varchar,               -- those asked for, as JSON
    left_out varchar[],               -- those that it refuses
    token_limit varchar,              -- its name for the limit on completion tokens
    answer varchar,                   -- what was wrong with its answer; empty: nothing
    probed_at timestamptz
);
comment on table probes is 'key: origin, model, parameters, probed_at';

-- one row per time a call's outcomes so far were given up: most questions failed like it, and the run paused
create table dismissals (
    call_key varchar,
    dismissed_at timestamptz
);
comment on table dismissals is 'key: call_key, dismissed_at';

-- one row per thing that happened to a batch: planned, uploaded, submitted, collected or failed
create table batch_events (
    batch varchar,                    -- our name for it; it stands in the metadata at the provider
    state varchar,
    run_name varchar,                 -- who pays; with what follows of the plan alone
    origin varchar,
    calls struct(call_key varchar, attempt bigint)[],
    input_file_id varchar,            -- the provider's names
    provider_batch_id varchar,
    failure varchar,
    happened_at timestamptz
);
comment on table batch_events is 'key: batch, state, happened_at';

-- one row per run, audit and ranking of the run that was asked for again under another permutation
create table audited_rankings (
    run_name varchar,
    audit_seed bigint,
    step integer,
    round integer,
    permutation integer[],
    ranking integer[],                -- candidate ids, best first; null when the answer could not be used
    reason varchar,                   -- why not
    call_key varchar,
    audited_at timestamptz
);
comment on table audited_rankings is 'key: run_name, audit_seed, step, round, audited_at';

-- one row per run and step before which everything is in the files under path
create table checkpoints (
    run_name varchar,
    step integer,                     -- the next step to run
    optimizer_steps integer,
    path varchar,                     -- relative to the home directory
    weights_sha256 varchar,
    size_bytes bigint,
    created_at timestamptz
);
comment on table checkpoints is 'key: run_name, step';

-- one row per time a process continued a run of which rounds were recorded
create table continuations (
    run_name varchar,
    resumption integer,               -- 1, 2, … in the order of the run
    process_host varchar,
    process_id integer,
    checkpoint_step integer,          -- the first step that its checkpoint leaves to do; 0: it had none
    started_at timestamptz
);
comment on table continuations is 'key: run_name, resumption';

-- one row per turn of a wave that a continuation replayed, and one for its first turn that it did not
create table continued_turns (
    run_name varchar,
    resumption integer,
    rounds integer,                   -- replayed: read back instead of sampled and asked
    optimizer_steps integer,
    seconds double,                   -- of those optimizer steps
    first_new_step integer,           -- of the turn that was not replayed
    ended_at timestamptz
);
comment on table continued_turns is 'key: run_name, resumption, ended_at';

-- one row per run without rounds and optimizer step (0-based)
create table optimizer_steps (
    run_name varchar,
    optimizer_step integer,
    examples integer,                 -- prompts that took part in it
    loss double,                      -- as the method defines it; not comparable between methods
    rank_loss double,                 -- null where the loss has no such part
    sft_loss double,
    reward double,                    -- mean reward of the responses it sampled; null where it samples none
    gradient_norm double,             -- before clipping
    learning_rate double,
    seconds double,
    trained_at timestamptz
);
comment on table optimizer_steps is 'key: run_name, optimizer_step';

-- one row per system under evaluation, a checkpoint, a backbone or an API model, and label it was given
create table labelled_systems (
    system_id varchar,                -- digest of identity
    label varchar,
    identity json,                    -- model, weights digest, prompt format
    kept_at timestamptz
);
comment on table labelled_systems is 'key: system_id, label, kept_at';

-- one row per time a system took up a role in a run's evaluation; the last one stands
create table system_roles (
    run_name varchar,
    role varchar,                     -- before, after, or a label
    system_id varchar,
    generation_digest varchar,
    taken_at timestamptz
);
comment on table system_roles is 'key: run_name, role, taken_at';

-- one row per system, prompt and generation settings
create table generations (
    generation_id varchar,            -- digest of the three
    system_id varchar,
    prompt_id varchar,
    generation_digest varchar,        -- digest of settings
    settings json,
    text varchar,
    tokens integer,                   -- how many
    ended boolean,
    repeated_4grams double,           -- share of 4-grams of tokens that occurred before in the same response
    seconds double,
    created_at timestamptz
);
comment on table generations is 'key: generation_id';

-- one row per generation and reward model
create table reward_scores (
    generation_id varchar,
    reward_model varchar,             -- identity of what produced the number
    reward double,
    scored_at timestamptz
);
comment on table reward_scores is 'key: generation_id, reward_model';

-- one row per verdict on a pair of generations; the last one stands, and "forgotten" takes a person's back
create table compared_pairs (
    comparison_id varchar,
    first_generation_id varchar,
    second_generation_id varchar,
    judge varchar,                    -- model, or annotator
    judge_kind varchar,               -- model, person or reward
    verdict varchar,                  -- first, second, tie, missing or forgotten
    reason varchar,
    call_key varchar,
    compared_at timestamptz
);
comment on table compared_pairs is 'key: comparison_id, compared_at';

-- one row per fitted preference model and subset of pairs it was tested on
create table preference_accuracies (
    reward_model varchar,
    subset varchar,
    pairs integer,
    accuracy double,
    measured_at timestamptz
);
comment on table preference_accuracies is 'key: reward_model, subset';

-- one row per two preference models that were fitted together: how alike they judge held-out pairs
create table preference_correlations (
    reward_model varchar,
    other_model varchar,
    pairs integer,
    correlation double,               -- Pearson's, of the two models' differences between chosen and rejected
    measured_at timestamptz
);
comment on table preference_correlations is 'key: reward_model, other_model';
