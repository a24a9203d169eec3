-- Keeps the prompts of a sample in order; a sample that is known stays as it is.
-- Parameters: $sample_digest, $purpose, $dataset_digest, $prompt_ids.
insert into samples by name
select
    $sample_digest::varchar as sample_digest,
    $purpose::varchar as purpose,
    $dataset_digest::varchar as dataset_digest,
    generate_subscripts($prompt_ids::varchar[], 1) - 1 as position,  -- noqa: RF04
    unnest($prompt_ids::varchar[]) as prompt_id
on conflict do nothing
