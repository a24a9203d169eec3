-- The same prompt under two systems: the largest and the median difference in reward (paper, Table 5).
-- Parameters: $run_name, $reward_model, $role, $against (labels of the run's evaluation).
-- One row per choice, largest first: 'largest' is the prompt on which the one gains most over the other,
-- 'median' the one in the middle (the lower middle of an even number). Equal differences are ordered by
-- prompt id.
with ranked as (
    select
        ours.subset,
        ours.prompt_id,
        ours.text as response,
        theirs.text as response_against,
        ours.reward,
        theirs.reward as reward_against,
        ours.reward - theirs.reward as difference,
        row_number() over (order by difference desc, ours.prompt_id asc) as place,
        count(*) over () as prompts
    from evaluated_rewards as ours
    inner join evaluated_rewards as theirs
        on
            ours.run_name = theirs.run_name
            and ours.prompt_id = theirs.prompt_id
            and ours.reward_model = theirs.reward_model
    where
        ours.run_name = $run_name
        and ours.reward_model = $reward_model
        and ours.role = $role
        and theirs.role = $against
)

select
    case when ranked.place = 1 then 'largest' else 'median' end as chosen,
    ranked.prompts,
    ranked.subset,
    ranked.prompt_id,
    prompts.instruction,
    ranked.response,
    ranked.response_against,
    ranked.reward,
    ranked.reward_against,
    ranked.difference
from ranked
inner join prompts on ranked.prompt_id = prompts.prompt_id
-- of one prompt the median is not shown beside itself
where ranked.place = 1 or ranked.place = ranked.prompts // 2 + 1
order by ranked.place;
