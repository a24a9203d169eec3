-- The rows of HH-RLHF files in the hub's layout, <subset>/<split>.jsonl.gz or .jsonl; other fields are ignored.
-- Variables: files (list of paths).
-- One row per line of the files; a text is null when the field is missing or holds JSON of another kind, both are null
-- when the line is no JSON (a byte order mark, half a surrogate pair, bytes that are no UTF-8).
create view source_rows as
select
    parse_path(filename)[-2] as subset,
    split_part(parse_path(filename)[-1], '.', 1) as split,
    dialogue_or_null(chosen) as chosen,
    dialogue_or_null(rejected) as rejected
from read_json(
    getvariable('files'),
    format = 'newline_delimited',
    filename = true,
    ignore_errors = true,
    columns = { 'chosen': 'varchar', 'rejected': 'varchar' }
)
