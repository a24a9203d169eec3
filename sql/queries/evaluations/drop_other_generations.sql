-- Takes systems out of a run's evaluation whose responses were generated under other settings: they are
-- kept, and stand in it again when they are evaluated under these.
-- Parameters: $run_name, $generation_digest.
-- One row per system that was taken out.
delete from run_systems
where run_name = $run_name and generation_digest <> $generation_digest
returning role
