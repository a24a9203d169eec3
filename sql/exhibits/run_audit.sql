-- Rankings of a run that were asked for again under another permutation, beside what was recorded.
-- Parameters: $run_name.
-- One row per audit and ranking. Rankings are candidate ids, best first; permutations name the candidate at
-- each position; lengths are characters by candidate id; same_as is the lowest id with the same text. A null
-- repeated_ranking has its reason. Models are the names under which the endpoint served its answers; their
-- fingerprints tell apart what was served under one name, null where the endpoint gives none.
with texts as (
    select
        step,
        round,
        slot,
        text,
        min(slot) over (partition by step, round, text) as same_as
    from responses
    where run_name = $run_name and kind = 'candidate'
),

candidates as (
    select
        step,
        round,
        list(length(text) order by slot asc) as lengths,
        list(same_as order by slot asc) as same_as
    from texts
    group by step, round
),

calls as (
    select audits.call_key from audits
    where audits.run_name = $run_name
    union
    select rounds.call_key from rounds
    where rounds.run_name = $run_name
),

answered as (
    select * from outcomes_of((select list(calls.call_key) from calls))
)

select
    audits.audit_seed,
    audits.step,
    audits.round,
    prompts.subset,
    rounds.prompt_id,
    candidates.lengths,
    candidates.same_as,
    rounds.permutation as recorded_permutation,
    rankings.ranking as recorded_ranking,
    first_calls.reply.model as recorded_model,
    first_calls.ended_at as recorded_at,
    try_cast(first_calls.reply.raw as json) ->> '$.system_fingerprint' as recorded_fingerprint,
    audits.permutation as repeated_permutation,
    audits.ranking as repeated_ranking,
    second_calls.reply.model as repeated_model,
    second_calls.ended_at as repeated_at,
    try_cast(second_calls.reply.raw as json) ->> '$.system_fingerprint' as repeated_fingerprint,
    audits.reason
from audits
inner join rounds
    on
        audits.run_name = rounds.run_name
        and audits.step = rounds.step
        and audits.round = rounds.round
inner join rankings
    on
        audits.run_name = rankings.run_name
        and audits.step = rankings.step
        and audits.round = rankings.round
        and rankings.ranker = 'black_box'
inner join prompts on rounds.prompt_id = prompts.prompt_id
inner join candidates on audits.step = candidates.step and audits.round = candidates.round
left join answered as first_calls on rounds.call_key = first_calls.call_key
left join answered as second_calls on audits.call_key = second_calls.call_key
where audits.run_name = $run_name
order by audits.audit_seed, audits.step, audits.round;
