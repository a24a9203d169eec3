-- The model that ranked the rounds which a run learnt from; a baseline learns from none.
-- Parameters: $run_name (null: every run).
-- One row per run of the cycle or refold.
select
    run_name,
    settings ->> '$.black_box.model' as ranked_by
from runs
where kind <> 'baseline' and ($run_name::varchar is null or run_name = $run_name)
order by run_name
