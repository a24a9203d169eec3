-- The rows of HH-RLHF files in the hub's layout, <subset>/<split>.jsonl.gz; other fields are ignored.
-- Variables: files (list of paths).
-- One row per line of the files; a text is null when the field is missing or no string.
create view source_rows as
select
    parse_path(filename)[-2] as subset,
    split_part(parse_path(filename)[-1], '.', 1) as split,
    case when json_type(json, '$.chosen') = 'VARCHAR' then json ->> '$.chosen' end as chosen,
    case when json_type(json, '$.rejected') = 'VARCHAR' then json ->> '$.rejected' end as rejected
from read_json_objects(getvariable('files'), format = 'newline_delimited', filename = true)
