-- The ledger: everything a run learns, one DuckDB file. Best first everywhere; rank 0 = best;
-- log-probabilities in nats; money in US dollars; times in seconds or as timestamptz.

-- one row per run: a resolved profile under a name
create table runs (
    run_name varchar primary key,
    profile varchar not null,
    seed bigint not null,
    settings json not null,           -- influential settings only, see cyclealign/settings.py
    settings_digest varchar not null,
    operational_settings json not null,
    steps integer not null,
    state varchar not null check (state in ('running', 'paused', 'complete', 'failed')),
    state_reason varchar,             -- why paused or failed
    process_host varchar,             -- who runs it: "interrupted" is running without a living process
    process_id integer,
    process_started_at double,        -- seconds since the epoch; tells a reused process id apart
    git_commit varchar,
    package_versions json not null,
    machine json not null,
    estimate json,                    -- printed before the first paid call
    source_run varchar,               -- the run whose recorded rounds this one trained from (refold)
    adapter_path varchar,
    weights_sha256 varchar,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    finished_at timestamptz
);

-- one row per prepared set of dialogues: a source under one choice of filters
create table datasets (
    dataset_digest varchar primary key,
    source varchar not null,
    location varchar not null,
    options json not null,
    prepared_at timestamptz not null
);

-- one row per data set, subset and split: what was read and what is left (paper, Table 6)
create table dataset_files (
    dataset_digest varchar not null,
    subset varchar not null,
    split varchar not null check (split in ('train', 'test')),
    rows_read bigint not null,
    pairs_kept bigint not null,
    primary key (dataset_digest, subset, split)
);

-- one row per data set, subset, split and reason for dropping a pair
create table filter_drops (
    dataset_digest varchar not null,
    subset varchar not null,
    split varchar not null,
    reason varchar not null,
    pairs_dropped bigint not null,
    primary key (dataset_digest, subset, split, reason)
);

-- one row per prompt that any sample uses; its id is derived from its text
create table prompts (
    prompt_id varchar primary key,
    subset varchar not null,
    split varchar not null,
    turns struct(speaker varchar, text varchar)[] not null,
    instruction varchar not null,     -- the dialogue as the ranking prompt shows it
    chosen varchar,                   -- the data set's own replies, for baselines
    rejected varchar
);

-- one row per sample and position: which prompts a run trains on or is evaluated on, in order
create table samples (
    sample_digest varchar not null,
    purpose varchar not null check (purpose in ('training', 'evaluation')),
    dataset_digest varchar not null,
    position integer not null,
    prompt_id varchar not null,
    primary key (sample_digest, position)
);

-- one row per run and purpose: the sample it uses
create table run_samples (
    run_name varchar not null,
    purpose varchar not null check (purpose in ('training', 'evaluation')),
    sample_digest varchar not null,
    primary key (run_name, purpose)
);

-- one row per run, step and round (a round is one interaction; steps are 0-based, rounds 1-based)
create table rounds (
    run_name varchar not null,
    step integer not null,
    round integer not null,
    wave integer not null,
    prompt_id varchar not null,
    state varchar not null check (state in ('sampled', 'ranked', 'unranked', 'trained')),
    unranked_reason varchar,
    unranked_detail varchar,
    call_key varchar,                 -- the call whose answer was accepted
    asks integer,
    permutation integer[],            -- permutation[i] = candidate id shown at position i
    agreement_length integer,
    stops_step boolean,               -- the two rankings are identical, or the last round
    optimizer_step integer,           -- 0-based; null when the round trained nothing
    loss double,                      -- rank_loss + lambda * sft_loss of this prompt
    rank_loss double,
    sft_loss double,
    gradient_norm double,             -- before clipping; of the whole optimizer step
    learning_rate double,
    sampling_seconds double,          -- of the wave, shared equally among its rounds
    scoring_seconds double,
    waiting_seconds double,
    training_seconds double,
    sampled_at timestamptz not null,
    ranked_at timestamptz,
    trained_at timestamptz,
    primary key (run_name, step, round)
);

-- one row per run, step, round and slot: the candidates (slot = candidate id) and, in slot -1, the rewrite
create table responses (
    run_name varchar not null,
    step integer not null,
    round integer not null,
    slot integer not null,
    kind varchar not null check (kind in ('candidate', 'rewrite')),
    text varchar not null,
    tokens integer[],                 -- null for the rewrite
    ended boolean,
    log_probability double,           -- sum over tokens, under the weights that sampled it
    mean_log_probability double,
    black_box_rank integer,
    white_box_rank integer,
    primary key (run_name, step, round, slot)
);

-- one row per run, step, round and ranker: candidate ids, best first
create table rankings (
    run_name varchar not null,
    step integer not null,
    round integer not null,
    ranker varchar not null check (ranker in ('black_box', 'white_box')),
    ranking integer[] not null,
    primary key (run_name, step, round, ranker)
);

-- one row per run, step and round with an agreement: the longest common subsequence of the two rankings
create table pseudo_labels (
    run_name varchar not null,
    step integer not null,
    round integer not null,
    ranking integer[] not null,
    primary key (run_name, step, round)
);

-- one row per run and demonstration admitted to its pool, oldest first; responses in the order they are shown
create table demonstrations (
    run_name varchar not null,
    demonstration integer not null,   -- 0 = the static one
    kind varchar not null check (kind in ('static', 'dynamic')),
    step integer,
    round integer,
    instruction varchar not null,
    responses varchar[] not null,
    ranking integer[] not null,       -- positions in responses, best first
    primary key (run_name, demonstration)
);

-- one row per run, step, round and position: which demonstrations its ranking prompt showed, in order
create table round_demonstrations (
    run_name varchar not null,
    step integer not null,
    round integer not null,
    position integer not null,
    demonstration integer not null,
    primary key (run_name, step, round, position)
);

-- one row per distinct call: a request body at an endpoint in a slot
create table api_calls (
    call_key varchar primary key,
    run_name varchar not null,        -- who asked first
    purpose varchar not null,
    model varchar not null,
    origin varchar not null,
    slot json not null,
    step integer,
    round integer,
    ask integer,
    request json not null,
    -- answered: content to be read; the others are never served as answers
    state varchar not null check (state in ('open', 'answered', 'refused', 'truncated', 'rejected')),
    raw varchar,                      -- the body as received
    content varchar,
    refusal varchar,
    finish_reason varchar,
    served_model varchar,
    prompt_tokens bigint,
    completion_tokens bigint,
    cost_usd decimal(18, 9),
    verdict varchar,                  -- what reading it said: accepted, or why not
    asked_at timestamptz not null,
    answered_at timestamptz
);

create sequence api_attempt_numbers;

-- one row per time a call was sent
create table api_attempts (
    attempt bigint primary key default nextval('api_attempt_numbers'),
    call_key varchar not null,
    run_name varchar not null,
    state varchar not null check (state in ('in_flight', 'answered', 'failed', 'unknown')),
    reserved_usd decimal(18, 9) not null,  -- the worst case, committed before sending
    cost_usd decimal(18, 9),               -- null while in flight; unknown attempts cost their reserve
    failure varchar,                       -- kind of failure, for example rate_limit
    http_status integer,
    raw varchar,                           -- a body with status 200 that could not be read; maybe paid for
    process_host varchar not null,
    process_id integer not null,
    process_started_at double not null,
    started_at timestamptz not null,
    ended_at timestamptz
);

-- one row per run and step before which everything is in the files under path
create table checkpoints (
    run_name varchar not null,
    step integer not null,            -- the next step to run
    optimizer_steps integer not null,
    path varchar not null,            -- relative to the home directory
    weights_sha256 varchar not null,
    size_bytes bigint not null,
    created_at timestamptz not null,
    primary key (run_name, step)
);

-- one row per system under evaluation: a checkpoint, a backbone or an API model
create table systems (
    system_id varchar primary key,    -- digest of identity
    label varchar not null,
    identity json not null            -- model, weights digest, prompt format
);

-- one row per run and role: the systems that its evaluation compares
create table run_systems (
    run_name varchar not null,
    role varchar not null,            -- before, after, or a label
    system_id varchar not null,
    generation_digest varchar not null,
    primary key (run_name, role)
);

-- one row per system, prompt and generation settings
create table generations (
    generation_id varchar primary key, -- digest of the three
    system_id varchar not null,
    prompt_id varchar not null,
    generation_digest varchar not null, -- digest of settings
    settings json not null,
    text varchar not null,
    tokens integer,                   -- how many
    ended boolean not null,
    repeated_4grams double,           -- share of 4-grams of tokens that occurred before in the same response
    seconds double,
    created_at timestamptz not null
);

-- one row per generation and reward model
create table reward_scores (
    generation_id varchar not null,
    reward_model varchar not null,    -- identity of what produced the number
    reward double not null,
    scored_at timestamptz not null,
    primary key (generation_id, reward_model)
);

-- one row per candidate of a round and reward model: the order that the black box's ranking is held against
-- (Figure 4)
create table response_rewards (
    run_name varchar not null,
    step integer not null,
    round integer not null,
    slot integer not null,
    reward_model varchar not null,
    reward double not null,
    primary key (run_name, step, round, slot, reward_model)
);

-- one row per pair of generations, judge and order of presentation
create table comparisons (
    comparison_id varchar primary key,
    first_generation_id varchar not null,
    second_generation_id varchar not null,
    judge varchar not null,           -- model, or annotator
    judge_kind varchar not null check (judge_kind in ('model', 'person', 'reward')),
    verdict varchar not null check (verdict in ('first', 'second', 'tie', 'missing')),
    reason varchar,
    call_key varchar,
    compared_at timestamptz not null
);

-- one row per fitted preference model, subset and split of pairs it was tested on
create table preference_accuracies (
    reward_model varchar not null,
    subset varchar not null,
    pairs integer not null,
    accuracy double not null,
    measured_at timestamptz not null,
    primary key (reward_model, subset)
);

-- one row per two preference models that were fitted together: how alike they judge held-out pairs
create table preference_correlations (
    reward_model varchar not null,
    other_model varchar not null,
    pairs integer not null,
    correlation double not null,      -- Pearson's, of the two models' differences between chosen and rejected
    measured_at timestamptz not null,
    primary key (reward_model, other_model)
);
