-- Records what asking the black box for rankings came to.
-- Parameters: $run_name, $rows.
with ranked as (
    select
        unnest(
            cast(
                $rows as struct(
                    step integer,
                    round integer,
                    state varchar,
                    unranked_reason varchar,
                    unranked_detail varchar,
                    call_key varchar,
                    asks integer,
                    permutation integer[],
                    agreement_length integer,
                    stops_step boolean,
                    waiting_seconds double
                )[]
            ),
            max_depth := 2
        )
)

update rounds
set
    state = ranked.state,
    unranked_reason = ranked.unranked_reason,
    unranked_detail = ranked.unranked_detail,
    call_key = ranked.call_key,
    asks = ranked.asks,
    permutation = ranked.permutation,
    agreement_length = ranked.agreement_length,
    stops_step = ranked.stops_step,
    waiting_seconds = ranked.waiting_seconds,
    ranked_at = now()
from ranked
where
    rounds.run_name = $run_name
    and rounds.step = ranked.step
    and rounds.round = ranked.round
