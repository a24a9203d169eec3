-- The course of training.
-- Parameters: $run_name.
-- One row per optimizer step; losses are means over the prompts in it, the gradient norm is before clipping.
-- A baseline has no steps of prompts, and where its method defines a loss of its own, no parts of it.
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
union all
select
    optimizer_steps.optimizer_step,
    optimizer_steps.optimizer_step as first_step,
    optimizer_steps.examples as prompts,
    optimizer_steps.loss,
    optimizer_steps.rank_loss,
    optimizer_steps.sft_loss,
    optimizer_steps.gradient_norm,
    optimizer_steps.learning_rate
from optimizer_steps
where optimizer_steps.run_name = $run_name
order by optimizer_step;
