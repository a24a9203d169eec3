-- Notes that nothing more will come of a batch.
-- Parameters: $batch, $state, $failure.
update batches
set
    state = $state,
    failure = $failure,
    ended_at = now()
where batch = $batch
