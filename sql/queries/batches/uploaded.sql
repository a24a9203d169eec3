-- Notes that a batch's file is at the provider.
-- Parameters: $batch, $input_file_id.
update batches
set
    state = 'uploaded',
    input_file_id = $input_file_id
where batch = $batch
