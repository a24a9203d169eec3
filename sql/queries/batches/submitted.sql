-- Notes that a batch was made at the provider, and its id there.
-- Parameters: $batch, $provider_batch_id.
update batches
set
    state = 'submitted',
    provider_batch_id = $provider_batch_id,
    submitted_at = now()
where batch = $batch
