-- Two systems' responses to the prompts of a run's evaluation, for people to compare.
-- Parameters: $run_name, $roles (the two systems' roles).
-- One row per prompt that both systems responded to, in the order of the sample.
with written as (
    select
        run_systems.role,
        generations.prompt_id,
        generations.generation_id,
        generations.text
    from run_systems
    inner join generations
        on
            run_systems.system_id = generations.system_id
            and run_systems.generation_digest = generations.generation_digest
    where run_systems.run_name = $run_name and list_contains($roles::varchar[], run_systems.role)
)

select
    prompts.prompt_id,
    prompts.turns,
    list(
        struct_pack(generation_id := written.generation_id, text := written.text) order by written.role
    ) as responses
from run_samples
inner join samples on run_samples.sample_digest = samples.sample_digest
inner join prompts on samples.prompt_id = prompts.prompt_id
inner join written on samples.prompt_id = written.prompt_id
where run_samples.run_name = $run_name and run_samples.purpose = 'evaluation'
group by prompts.prompt_id, prompts.turns, samples.position
having count(distinct written.generation_id) = 2
order by samples.position
