-- Forgets a person's verdict that they took back.
-- Parameters: $comparison_id.
delete from comparisons
where comparison_id = $comparison_id and judge_kind = 'person'
