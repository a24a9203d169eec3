-- Notes where a run's adapter is and the digest of its weights.
-- Parameters: $run_name, $adapter_path, $weights_sha256.
update runs
set
    adapter_path = $adapter_path,
    weights_sha256 = $weights_sha256,
    updated_at = now()
where run_name = $run_name
