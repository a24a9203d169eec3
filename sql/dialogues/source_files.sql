-- The rows of HH-RLHF files in the hub's layout, <subset>/<split>.jsonl.gz; other fields are ignored.
-- Variables: files (list of paths).
-- One row per line of the files; a text is null when the field is missing or no string.
create view source_rows as
with extracted as (
    select
        parse_path(filename)[-2] as subset,
        split_part(parse_path(filename)[-1], '.', 1) as split,
        json_type(json, ['$.chosen', '$.rejected']) as kinds,
        json ->> ['$.chosen', '$.rejected'] as texts
    from read_json_objects(getvariable('files'), format = 'newline_delimited', filename = true)
)

select
    subset,
    split,
    case when kinds[1] = 'VARCHAR' then texts[1] end as chosen,
    case when kinds[2] = 'VARCHAR' then texts[2] end as rejected
from extracted
