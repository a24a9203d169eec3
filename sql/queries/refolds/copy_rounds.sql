-- Gives a run the recorded rounds of another one, as if they had been ranked and not trained on yet.
-- It spent no time on sampling, scoring and waiting.
-- Parameters: $source_run, $run_name, $steps (element i: the new step of the source's step i), $wave.
insert into rounds by name
select
    $run_name::varchar as run_name,
    list_extract($steps::integer[], rounds.step + 1) as step,
    rounds.round,
    list_extract($steps::integer[], rounds.step + 1) // $wave::integer as wave,
    rounds.prompt_id,
    case when rounds.state = 'trained' then 'ranked' else rounds.state end as state,
    rounds.unranked_reason,
    rounds.unranked_detail,
    rounds.call_key,
    rounds.asks,
    rounds.permutation,
    rounds.agreement_length,
    rounds.stops_step,
    0.0 as sampling_seconds,
    0.0 as scoring_seconds,
    0.0 as waiting_seconds,
    rounds.sampled_at,
    rounds.ranked_at
from rounds
where rounds.run_name = $source_run
