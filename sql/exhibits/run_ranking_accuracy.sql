-- How often each ranker orders two candidates as a reward model does, over the run (paper, Figure 4).
-- Parameters: $run_name, $bins (the run's steps are cut into this many bins of equal width).
-- One row per reward model that scored the candidates and bin of steps; no rows where none did.
-- Accuracies are shares of the pairs of candidates with different rewards; chance is 0.5.
select
    counted_pairs.reward_model,
    min(counted_pairs.step) as first_step,
    max(counted_pairs.step) as last_step,
    sum(counted_pairs.pairs)::bigint as pairs,
    sum(counted_pairs.black_box_right) / sum(counted_pairs.pairs) as black_box_accuracy,
    sum(counted_pairs.white_box_right) / sum(counted_pairs.pairs) as white_box_accuracy
from counted_pairs
inner join runs on counted_pairs.run_name = runs.run_name
where counted_pairs.run_name = $run_name
group by counted_pairs.reward_model, counted_pairs.step * least($bins, runs.steps) // runs.steps
order by counted_pairs.reward_model, first_step;
