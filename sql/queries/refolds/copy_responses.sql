-- Gives a run the recorded responses of another one. Confidences stay those of the model that sampled them.
-- Parameters: $source_run, $run_name, $steps (element i: the new step of the source's step i), $encoded (the
-- tokens of candidates under another tokenizer, by the source's step, round and slot; none: the tokens stay).
with encoded as (
    select
        unnest(
            cast($encoded as struct(step integer, round integer, slot integer, tokens integer[])[]),
            max_depth := 2
        )
)

insert into responses by name
select
    $run_name::varchar as run_name,
    list_extract($steps::integer[], responses.step + 1) as step,
    responses.round,
    responses.slot,
    responses.kind,
    responses.text,
    coalesce(encoded.tokens, responses.tokens) as tokens,
    responses.ended,
    responses.log_probability,
    responses.mean_log_probability,
    responses.black_box_rank,
    responses.white_box_rank
from responses
left join encoded
    on
        responses.step = encoded.step
        and responses.round = encoded.round
        and responses.slot = encoded.slot
where responses.run_name = $source_run
