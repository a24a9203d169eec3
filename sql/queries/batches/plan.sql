-- Commits a plan to send calls through a Batch API, before anything is sent.
-- Parameters: $batch, $run_name, $origin.
insert into batches (batch, run_name, origin, state, planned_at)
values ($batch, $run_name, $origin, 'planned', now())
