-- Batches at an endpoint whose answers are not here yet: a run's own, and those of others that hold one of
-- the calls and are at the provider already. One that another run is still sending is that run's alone to
-- send.
-- Parameters: $run_name, $origin, $call_keys (a list, may be empty).
-- One row per batch, oldest first.
select
    batch,
    state,
    input_file_id,
    provider_batch_id,
    epoch(planned_at) as planned_at
from batches
where
    origin = $origin
    and (
        (run_name = $run_name and state in ('planned', 'uploaded', 'submitted'))
        or (
            state = 'submitted'
            and batch in (
                select batch_calls.batch from batch_calls
                where list_contains($call_keys::varchar[], batch_calls.call_key)
            )
        )
    )
order by planned_at, batch
