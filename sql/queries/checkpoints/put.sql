-- Notes that everything before a step is in the files under a path.
-- Parameters: $run_name, $step, $optimizer_steps, $path, $weights_sha256, $size_bytes.
insert into checkpoints (run_name, step, optimizer_steps, path, weights_sha256, size_bytes, created_at)
values ($run_name, $step, $optimizer_steps, $path, $weights_sha256, $size_bytes, now())
on conflict (run_name, step) do update set
    optimizer_steps = excluded.optimizer_steps,
    path = excluded.path,
    weights_sha256 = excluded.weights_sha256,
    size_bytes = excluded.size_bytes,
    created_at = excluded.created_at
