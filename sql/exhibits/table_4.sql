-- The ablations: mean reward after training with and without a part of the method (paper, Table 4).
-- Parameters: $reward_model (null: every reward model).
-- One row per profile, other settings, reward model, subset, objective, demonstrations (icl), rewrite and N
-- (rounds); subset 'all' is the average over all responses, the paper's Total. The paper's "w/o D2" is icl =
-- static, its "w/o ICL" icl = off. Means are over seeds, each seed's mean counting once; spreads are standard
-- deviations over seeds, null for one seed.
select
    profile,
    other_settings,
    reward_model,
    subset,
    objective,
    icl,
    rewrite,
    rounds,
    count(*) as seeds,
    sum(responses)::bigint as responses,
    avg(reward_after) as mean_reward,
    stddev_samp(reward_after) as spread_of_reward,
    avg(reward_after - reward_before) as mean_gain,
    stddev_samp(reward_after - reward_before) as spread_of_gain,
    avg(sigmoid_after_100) as sigmoid_mean_100,
    stddev_samp(sigmoid_after_100) as spread_of_sigmoid_100
from ablation_rewards
where $reward_model::varchar is null or reward_model = $reward_model
group by all
order by profile, other_settings, reward_model, subset, objective, icl, rewrite, rounds;
