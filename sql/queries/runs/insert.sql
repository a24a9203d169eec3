-- Registers a run that nobody has claimed yet.
-- Parameters: $run_name, $profile, $seed, $settings, $settings_digest, $operational_settings, $steps,
-- $git_commit, $package_versions, $machine, $source_run, $kind, $baseline.
insert into runs (
    run_name, profile, seed, settings, settings_digest, operational_settings, steps, state, git_commit,
    package_versions, machine, source_run, kind, baseline, created_at, updated_at
)
values (
    $run_name, $profile, $seed, $settings, $settings_digest, $operational_settings, $steps, 'running',
    $git_commit, $package_versions, $machine, $source_run, $kind, $baseline, now(), now()
)
