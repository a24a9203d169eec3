-- Whether a run has candidates that no reward model has scored.
-- Parameters: $run_name.
-- One row per call
select exists(
    select 1
    from responses
    where
        run_name = $run_name
        and kind = 'candidate'
        and not exists (
            select 1
            from response_rewards
            where
                response_rewards.run_name = $run_name
                and response_rewards.step = responses.step
                and response_rewards.round = responses.round
                and response_rewards.slot = responses.slot
        )
) as any_unscored
