-- The course of training.
-- Parameters: $run_name.
-- One row per optimizer step; losses are means over the prompts in it, the gradient norm is before clipping.
select
    rounds.optimizer_step,
    min(rounds.step) as first_step,
    count(*) as prompts,
    avg(rounds.loss) as loss,
    avg(rounds.rank_loss) as rank_loss,
    avg(rounds.sft_loss) as sft_loss,
    any_value(rounds.gradient_norm) as gradient_norm,
    any_value(rounds.learning_rate) as learning_rate
from rounds
where rounds.run_name = $run_name and rounds.optimizer_step is not null
group by rounds.optimizer_step
order by rounds.optimizer_step;
