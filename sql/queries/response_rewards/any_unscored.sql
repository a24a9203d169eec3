-- Whether a run has rounds whose candidates no reward model has scored.
-- Parameters: $run_name.
-- One row per call.
select exists(
    select 1
    from sampled_rounds
    anti join candidate_rewards using (run_name, step, round)
    where run_name = $run_name
) as any_unscored
