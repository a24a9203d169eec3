-- Notes which sample a run uses for a purpose.
-- Parameters: $run_name, $purpose, $sample_digest.
insert into run_samples (run_name, purpose, sample_digest)
values ($run_name, $purpose, $sample_digest)
on conflict (run_name, purpose) do update set sample_digest = excluded.sample_digest
