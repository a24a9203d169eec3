-- The black box's rankings of a run, with all that its ranking prompts showed.
-- Parameters: $run_name.
-- One row per ranked round, in order.
with candidates as (
    select
        step,
        round,
        list(text order by slot asc) as texts
    from responses
    where run_name = $run_name and kind = 'candidate'
    group by step, round
),

shown as (
    select
        round_demonstrations.step,
        round_demonstrations.round,
        list(
            {
                'instruction': demonstrations.instruction,
                'responses': demonstrations.responses,
                'ranking': demonstrations.ranking
            }
            order by round_demonstrations.position asc
        ) as demonstrations
    from round_demonstrations
    inner join demonstrations
        on
            round_demonstrations.run_name = demonstrations.run_name
            and round_demonstrations.demonstration = demonstrations.demonstration
    where round_demonstrations.run_name = $run_name
    group by round_demonstrations.step, round_demonstrations.round
)

select
    rounds.step,
    rounds.round,
    prompts.instruction,
    candidates.texts as candidates,
    rounds.permutation,
    coalesce(shown.demonstrations, []) as demonstrations
from rounds
inner join rankings
    on
        rounds.run_name = rankings.run_name
        and rounds.step = rankings.step
        and rounds.round = rankings.round
        and rankings.ranker = 'black_box'
inner join prompts on rounds.prompt_id = prompts.prompt_id
inner join candidates on rounds.step = candidates.step and rounds.round = candidates.round
left join shown on rounds.step = shown.step and rounds.round = shown.round
where rounds.run_name = $run_name and rounds.permutation is not null
order by rounds.step, rounds.round
