-- What the responses look like, whatever their reward: length, ending, repetition.
-- Parameters: $run_name.
-- One row per subset and role; subset 'all' is the average over all responses. Lengths in tokens.
select
    coalesce(subset, 'all') as subset,
    role,
    count(*) as responses,
    avg(tokens) as mean_tokens,
    avg(ended::integer) as ended_share,
    avg(repeated_4grams) as repeated_4grams
from evaluated_generations
where run_name = $run_name
group by role, rollup (subset)
order by subset, role;
