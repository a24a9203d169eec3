-- How often the black box ranks as a reward model does, with and without demonstrations (paper, Figure 4).
-- Parameters: $reward_model (null: every reward model), $bins (each run's steps are cut into this many bins
-- of equal width).
-- One row per profile, other settings, objective, rewrite, N (rounds), reward model, demonstrations (icl) and
-- bin. Accuracy is the share of pairs of candidates with different rewards in the right order; Kendall's tau
-- of a round is (right - wrong) / such pairs. Chance is 0.5 and 0. Means are over seeds, each seed's mean
-- counting once; spreads are standard deviations over seeds, null for one seed.
with candidates as (
    select
        varied_runs.run_name,
        responses.step,
        responses.round,
        responses.black_box_rank,
        response_rewards.reward_model,
        response_rewards.reward,
        responses.step * least($bins, varied_runs.steps) // varied_runs.steps as bin
    from varied_runs
    inner join responses on varied_runs.run_name = responses.run_name
    inner join response_rewards
        on
            responses.run_name = response_rewards.run_name
            and responses.step = response_rewards.step
            and responses.round = response_rewards.round
            and responses.slot = response_rewards.slot
    where
        responses.kind = 'candidate'
        and responses.black_box_rank is not null
        and ($reward_model::varchar is null or response_rewards.reward_model = $reward_model)
),

ranked as (
    select
        better.run_name,
        better.reward_model,
        better.bin,
        better.step,
        better.round,
        count(*) as pairs,
        count(*) filter (where better.black_box_rank < worse.black_box_rank) as right_pairs
    from candidates as better
    inner join candidates as worse
        on
            better.run_name = worse.run_name
            and better.reward_model = worse.reward_model
            and better.step = worse.step
            and better.round = worse.round
            and better.reward > worse.reward
    group by better.run_name, better.reward_model, better.bin, better.step, better.round
),

by_run as (
    select
        ranked.run_name,
        ranked.reward_model,
        ranked.bin,
        min(ranked.step) as first_step,
        max(ranked.step) as last_step,
        sum(ranked.pairs)::bigint as pairs,
        sum(ranked.right_pairs) / sum(ranked.pairs) as accuracy,
        avg((2 * ranked.right_pairs - ranked.pairs) / ranked.pairs) as kendall_tau
    from ranked
    group by ranked.run_name, ranked.reward_model, ranked.bin
)

select
    varied_runs.profile,
    varied_runs.other_settings,
    varied_runs.objective,
    varied_runs.rewrite,
    varied_runs.rounds,
    by_run.reward_model,
    varied_runs.icl,
    min(by_run.first_step) as first_step,
    max(by_run.last_step) as last_step,
    count(*) as seeds,
    sum(by_run.pairs)::bigint as pairs,
    avg(by_run.accuracy) as accuracy,
    stddev_samp(by_run.accuracy) as spread_of_accuracy,
    avg(by_run.kendall_tau) as kendall_tau,
    stddev_samp(by_run.kendall_tau) as spread_of_kendall_tau
from varied_runs
inner join by_run on varied_runs.run_name = by_run.run_name
group by
    varied_runs.profile,
    varied_runs.other_settings,
    varied_runs.objective,
    varied_runs.rewrite,
    varied_runs.rounds,
    by_run.reward_model,
    varied_runs.icl,
    by_run.bin
order by
    varied_runs.profile,
    varied_runs.other_settings,
    varied_runs.objective,
    varied_runs.rewrite,
    varied_runs.rounds,
    by_run.reward_model,
    varied_runs.icl,
    by_run.bin;
