-- Notes that a data set was prepared.
-- Parameters: $dataset_digest, $source, $location, $options.
insert into datasets (dataset_digest, source, location, options, prepared_at)
values ($dataset_digest, $source, $location, $options, now())
on conflict do nothing
