-- The history of prompts through their rounds: every candidate and the rewrite with both models' ranks.
-- Parameters: $run_name, $prompt_id (null: all).
-- One row per run, step, round and response; the rewrite (slot -1) comes last in its round.
select
    rounds.run_name,
    rounds.step,
    rounds.round,
    rounds.prompt_id,
    responses.slot,
    responses.kind,
    responses.black_box_rank,
    responses.white_box_rank,
    responses.mean_log_probability,
    rounds.state,
    rounds.loss,
    responses.text
from rounds
inner join responses
    on
        rounds.run_name = responses.run_name
        and rounds.step = responses.step
        and rounds.round = responses.round
where
    ($run_name::varchar is null or rounds.run_name = $run_name)
    and ($prompt_id::varchar is null or rounds.prompt_id = $prompt_id)
order by
    rounds.run_name,
    rounds.step,
    rounds.round,
    responses.slot < 0,
    responses.slot
