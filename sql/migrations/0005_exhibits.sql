-- How the rankings of rounds stand to the rewards of their candidates, counted once (Figure 4), and the
-- rewards of finished runs beside the choices in which ablations differ (Table 4, Figure 5).

-- one row per run, step, round and reward model that tells candidates apart which the black box ranked: the
-- pairs of candidates with different rewards, and how many of them each ranker has in the rewards' order
create view ranked_pairs as
with candidates as (
    select
        responses.run_name,
        responses.step,
        responses.round,
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
    where responses.kind = 'candidate' and responses.black_box_rank is not null
)

select
    better.run_name,
    better.step,
    better.round,
    better.reward_model,
    count(*) as pairs,
    count(*) filter (where better.black_box_rank < worse.black_box_rank) as black_box_right,
    count(*) filter (where better.white_box_rank < worse.white_box_rank) as white_box_right
from candidates as better
inner join candidates as worse
    on
        better.run_name = worse.run_name
        and better.step = worse.step
        and better.round = worse.round
        and better.reward_model = worse.reward_model
        and better.reward > worse.reward
group by better.run_name, better.step, better.round, better.reward_model;

-- the rows of ranked_pairs, kept, because counting those of all runs anew takes seconds on a large ledger.
-- They are counted when rewards are put, which is after the rankings. No primary key: it would take thirty
-- times the room of the rows, and nothing looks for a single one
create table counted_pairs (
    run_name varchar not null,
    step integer not null,
    round integer not null,
    reward_model varchar not null,
    pairs integer not null,
    black_box_right integer not null,
    white_box_right integer not null
);

insert into counted_pairs
select
    run_name,
    step,
    round,
    reward_model,
    pairs,
    black_box_right,
    white_box_right
from ranked_pairs;

-- one row per finished run of the cycle, reward model and subset ('all': over all responses): the choices in
-- which ablations differ, and the mean rewards of its held-out responses before and after
create view ablation_rewards as
select
    varied_runs.profile,
    varied_runs.other_settings,
    varied_runs.objective,
    varied_runs.icl,
    varied_runs.rewrite,
    varied_runs.rounds,
    varied_runs.seed,
    varied_run_rewards.run_name,
    varied_run_rewards.reward_model,
    varied_run_rewards.subset,
    varied_run_rewards.responses,
    varied_run_rewards.reward_before,
    varied_run_rewards.reward_after,
    varied_run_rewards.sigmoid_before_100,
    varied_run_rewards.sigmoid_after_100
from varied_runs
inner join varied_run_rewards on varied_runs.run_name = varied_run_rewards.run_name;
