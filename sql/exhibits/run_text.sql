-- What the responses look like, whatever their reward: length, ending, repetition.
-- Parameters: $run_name.
-- One row per subset and role; subset 'all' is the average over all responses. Lengths in tokens.
select
    coalesce(prompts.subset, 'all') as subset,
    run_systems.role,
    count(*) as responses,
    avg(generations.tokens) as mean_tokens,
    avg(generations.ended::integer) as ended_share,
    avg(generations.repeated_4grams) as repeated_4grams
from run_systems
inner join run_samples
    on run_systems.run_name = run_samples.run_name and run_samples.purpose = 'evaluation'
inner join samples on run_samples.sample_digest = samples.sample_digest
inner join prompts on samples.prompt_id = prompts.prompt_id
inner join generations
    on
        run_systems.system_id = generations.system_id
        and run_systems.generation_digest = generations.generation_digest
        and samples.prompt_id = generations.prompt_id
where run_systems.run_name = $run_name
group by grouping sets ((run_systems.role, prompts.subset), (run_systems.role))
order by subset, run_systems.role;
