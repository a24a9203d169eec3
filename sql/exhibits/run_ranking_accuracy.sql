-- How often each ranker orders two candidates as a reward model does, over the run (paper, Figure 4).
-- Parameters: $run_name, $bins (the run's steps are cut into this many bins of equal width).
-- One row per reward model that scored the candidates and bin of steps; no rows where none did.
-- Accuracies are shares of the pairs of candidates with different rewards; chance is 0.5.
with candidates as (
    select
        responses.step,
        responses.round,
        responses.slot,
        responses.black_box_rank,
        responses.white_box_rank,
        response_rewards.reward_model,
        response_rewards.reward
    from responses
    inner join response_rewards
        on
            responses.run_name = response_rewards.run_name
            and responses.step = response_rewards.step
            and responses.round = response_rewards.round
            and responses.slot = response_rewards.slot
    where
        responses.run_name = $run_name
        and responses.kind = 'candidate'
        and responses.black_box_rank is not null
        and responses.white_box_rank is not null
),

pairs as (
    select
        better.reward_model,
        better.step,
        better.black_box_rank < worse.black_box_rank as black_box_right,
        better.white_box_rank < worse.white_box_rank as white_box_right
    from candidates as better
    inner join candidates as worse
        on
            better.reward_model = worse.reward_model
            and better.step = worse.step
            and better.round = worse.round
            and better.reward > worse.reward
)

select
    pairs.reward_model,
    min(pairs.step) as first_step,
    max(pairs.step) as last_step,
    count(*) as pairs,
    avg(pairs.black_box_right::integer) as black_box_accuracy,
    avg(pairs.white_box_right::integer) as white_box_accuracy
from pairs
inner join runs on runs.run_name = $run_name
group by pairs.reward_model, pairs.step * least($bins, runs.steps) // runs.steps
order by pairs.reward_model, first_step;
