-- Which rankings an audit has asked for again already.
-- Parameters: $run_name, $audit_seed.
-- One row per audited ranking whose answer could be read.
select
    step,
    round
from audits
where run_name = $run_name and audit_seed = $audit_seed and ranking is not null
