-- Every verdict on its own, with what it may have been swayed by: the order and the length (paper, Table 2).
-- Parameters: $run_name (null: every run).
-- One row per run, judge, pair of roles (as in table_2_outcomes), prompt of the evaluation sample and order
-- of presentation; verdicts on identical responses, which nobody was asked for, are left out. Lengths are
-- characters of the responses in the order they were shown.
with shown as (
    select
        earlier.run_name,
        comparisons.judge,
        earlier.subset,
        earlier.prompt_id,
        earlier.position,
        earlier.role as first_role,
        later.role as second_role,
        earlier.role = 'after' or (later.role <> 'after' and earlier.role < later.role) as ours_first,
        comparisons.verdict,
        comparisons.reason,
        comparisons.call_key,
        length(earlier.text) as first_length,
        length(later.text) as second_length
    from comparisons
    inner join evaluated_generations as earlier on comparisons.first_generation_id = earlier.generation_id
    inner join evaluated_generations as later
        on comparisons.second_generation_id = later.generation_id and earlier.run_name = later.run_name
    where
        comparisons.judge_kind = 'model'
        and comparisons.call_key is not null
        and ($run_name::varchar is null or earlier.run_name = $run_name)
),

answered as (
    select * from outcomes_of((select list(shown.call_key) from shown))
)

select
    shown.run_name,
    shown.judge,
    case when shown.ours_first then shown.first_role else shown.second_role end as role,
    case when shown.ours_first then shown.second_role else shown.first_role end as against,
    shown.subset,
    shown.prompt_id,
    shown.ours_first,
    shown.verdict,
    shown.reason,
    shown.first_length,
    shown.second_length,
    answered.reply.model as served_model
from shown
left join answered on shown.call_key = answered.call_key
order by shown.run_name, shown.judge, role, against, shown.position, shown.ours_first;
