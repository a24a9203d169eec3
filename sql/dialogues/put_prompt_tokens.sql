-- Adds a batch of token counts.
-- Parameters: $rows.
insert into prompt_tokens by name
select unnest(cast($rows as struct(prompt_id varchar, tokens bigint)[]), max_depth := 2)
