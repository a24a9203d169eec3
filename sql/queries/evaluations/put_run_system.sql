-- Notes which system stands in a role of a run's evaluation.
-- Parameters: $run_name, $role, $system_id, $generation_digest.
insert into run_systems (run_name, role, system_id, generation_digest)
values ($run_name, $role, $system_id, $generation_digest)
on conflict (run_name, role) do update set
    system_id = excluded.system_id,
    generation_digest = excluded.generation_digest
