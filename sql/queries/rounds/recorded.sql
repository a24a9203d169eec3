-- Everything that replaying recorded rounds needs.
-- Parameters: $run_name, $first_step (included), $last_step (excluded).
-- One row per step and round, in order.
-- responses: the candidates in the order of their ids; shown: demonstrations in the order of the prompt.
with candidates as (
    select
        step,
        round,
        list(
            {
                'text': text,
                'tokens': tokens,
                'ended': ended,
                'log_probability': log_probability
            }
            order by slot
        ) as responses
    from responses
    where run_name = $run_name and step >= $first_step and step < $last_step and kind = 'candidate'
    group by step, round
),

shown as (
    select
        step,
        round,
        list(demonstration order by position) as shown
    from round_demonstrations
    where run_name = $run_name and step >= $first_step and step < $last_step
    group by step, round
)

select
    rounds.step,
    rounds.round,
    rounds.wave,
    rounds.prompt_id,
    rounds.state,
    rounds.sampling_seconds,
    rounds.scoring_seconds,
    candidates.responses,
    white_box.ranking as white_box_ranking,
    black_box.ranking as black_box_ranking,
    rewrites.text as rewrite,
    rounds.unranked_reason,
    rounds.unranked_detail,
    rounds.call_key,
    rounds.asks,
    rounds.permutation,
    shown.shown,
    pseudo_labels.ranking as agreement,
    rounds.stops_step,
    rounds.waiting_seconds,
    demonstrations.demonstration,
    demonstrations.instruction as demonstration_instruction,
    demonstrations.responses as demonstration_responses,
    demonstrations.ranking as demonstration_ranking,
    rounds.optimizer_step,
    rounds.loss,
    rounds.rank_loss,
    rounds.sft_loss,
    rounds.gradient_norm,
    rounds.learning_rate,
    rounds.training_seconds
from rounds
inner join candidates on rounds.step = candidates.step and rounds.round = candidates.round
inner join rankings as white_box
    on
        white_box.run_name = $run_name
        and rounds.step = white_box.step
        and rounds.round = white_box.round
        and white_box.ranker = 'white_box'
left join rankings as black_box
    on
        black_box.run_name = $run_name
        and rounds.step = black_box.step
        and rounds.round = black_box.round
        and black_box.ranker = 'black_box'
left join responses as rewrites
    on
        rewrites.run_name = $run_name
        and rounds.step = rewrites.step
        and rounds.round = rewrites.round
        and rewrites.kind = 'rewrite'
left join shown on rounds.step = shown.step and rounds.round = shown.round
left join pseudo_labels
    on
        pseudo_labels.run_name = $run_name
        and rounds.step = pseudo_labels.step
        and rounds.round = pseudo_labels.round
left join demonstrations
    on
        demonstrations.run_name = $run_name
        and rounds.step = demonstrations.step
        and rounds.round = demonstrations.round
where rounds.run_name = $run_name and rounds.step >= $first_step and rounds.step < $last_step
order by rounds.step, rounds.round
