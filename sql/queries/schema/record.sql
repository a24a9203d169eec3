-- Records that a migration was applied.
-- Parameters: $version, $name, $checksum.
insert into schema_migrations (version, name, checksum, applied_at)
values ($version, $name, $checksum, now())
