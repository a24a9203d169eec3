-- Keeps a system under evaluation; its label may change, its identity never.
-- Parameters: $system_id, $label, $identity.
insert into systems (system_id, label, identity)
values ($system_id, $label, $identity)
on conflict (system_id) do update set label = excluded.label
