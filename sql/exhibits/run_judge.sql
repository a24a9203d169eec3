-- The model that ranked, as the ledger shows it: who answered, whether order sways it, whether its usage can be right.
-- Parameters: $run_name.
-- One row per model that the endpoint served under the asked-for name, the commonest first.
-- first_shown_best of the rankings put the response first that was shown first; prompts are in characters.
with ranked as (
    select
        call_key,
        permutation[1] as first_shown,
        answer.ranking[1] as best,
        len(answer.ranking) as candidates
    from ranked_rounds
    where run_name = $run_name and answer is not null
),

answered as (
    select * from outcomes_of((select list(ranked.call_key) from ranked))
),

asked as (
    select
        attempts.call_key,
        any_value(length(attempts.request ->> '$.messages[0].content')) as prompt_length
    from attempts
    semi join ranked on attempts.call_key = ranked.call_key
    group by attempts.call_key
)

select
    answered.reply.model as served_model,
    count(*) as rankings,
    count(*) filter (where ranked.first_shown = ranked.best) as first_shown_best,
    max(ranked.candidates) as candidates,
    min(answered.reply.prompt_tokens) as least_tokens,
    max(answered.reply.prompt_tokens) as most_tokens,
    min(asked.prompt_length) as shortest_prompt,
    max(asked.prompt_length) as longest_prompt
from ranked
inner join answered on ranked.call_key = answered.call_key
inner join asked on ranked.call_key = asked.call_key
group by served_model
order by rankings desc, served_model asc;
