-- A run as it was registered.
-- Parameters: $run_name.
-- One row per run of that name: one or none.
select
    run_name,
    profile,
    seed,
    settings,
    settings_digest,
    operational_settings,
    steps,
    state,
    state_reason,
    process_host,
    process_id,
    process_started_at,
    git_commit,
    package_versions,
    machine,
    estimate,
    source_run,
    kind,
    baseline,
    adapter_path,
    weights_sha256,
    created_at
from runs
where run_name = $run_name
