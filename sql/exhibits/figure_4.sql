-- How often the black box ranks as a reward model does, with and without demonstrations (paper, Figure 4).
-- Parameters: $reward_model (null: every reward model), $bins (each run's steps are cut into this many bins
-- of equal width).
-- One row per profile, other settings, objective, rewrite, N (rounds), reward model, demonstrations (icl) and
-- bin. Accuracy is the share of pairs of candidates with different rewards in the right order; Kendall's tau
-- of a round is (right - wrong) / such pairs. Chance is 0.5 and 0. Means are over seeds, each seed's mean
-- counting once; spreads are standard deviations over seeds, null for one seed.
with by_run as (
    select
        counted_pairs.run_name,
        counted_pairs.reward_model,
        counted_pairs.step * least($bins, varied_runs.steps) // varied_runs.steps as bin,
        min(counted_pairs.step) as first_step,
        max(counted_pairs.step) as last_step,
        sum(counted_pairs.pairs)::bigint as pairs,
        sum(counted_pairs.black_box_right) / sum(counted_pairs.pairs) as accuracy,
        avg((2 * counted_pairs.black_box_right - counted_pairs.pairs) / counted_pairs.pairs) as kendall_tau
    from counted_pairs
    inner join varied_runs on counted_pairs.run_name = varied_runs.run_name
    where $reward_model::varchar is null or counted_pairs.reward_model = $reward_model
    group by counted_pairs.run_name, counted_pairs.reward_model, bin
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
order by all;
