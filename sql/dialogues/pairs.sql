-- Preference pairs of a prepared data set, in an order that their texts alone decide.
-- Reads `prepared`, a split's file.
-- One row per pair.
select * exclude (file_row_number)
from prepared
order by md5(concat_ws(chr(31), 0, prompt_id, subset, chosen, rejected))
