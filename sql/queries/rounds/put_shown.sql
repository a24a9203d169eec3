-- Records which demonstrations the ranking prompts of rounds showed, in order.
-- Parameters: $run_name, $rows.
with prompts as (
    select unnest(cast($rows as struct(step integer, round integer, shown integer[])[]), max_depth := 2)
)

insert into round_demonstrations by name
select
    $run_name::varchar as run_name,
    step,
    round,
    generate_subscripts(shown, 1) - 1 as position,  -- noqa: RF04
    unnest(shown) as demonstration
from prompts
