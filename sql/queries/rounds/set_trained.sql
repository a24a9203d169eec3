-- Records the optimizer steps of rounds. A round that was trained on before is replayed: its record stays.
-- Parameters: $run_name, $rows.
with trained as (
    select
        unnest(
            cast(
                $rows as struct(
                    step integer,
                    round integer,
                    optimizer_step integer,
                    loss double,
                    rank_loss double,
                    sft_loss double,
                    gradient_norm double,
                    learning_rate double,
                    seconds double
                )[]
            ),
            max_depth := 2
        )
)

update rounds
set
    state = 'trained',
    optimizer_step = trained.optimizer_step,
    loss = trained.loss,
    rank_loss = trained.rank_loss,
    sft_loss = trained.sft_loss,
    gradient_norm = trained.gradient_norm,
    learning_rate = trained.learning_rate,
    training_seconds = trained.seconds,
    trained_at = now()
from trained
where
    rounds.run_name = $run_name
    and rounds.step = trained.step
    and rounds.round = trained.round
    and rounds.state = 'ranked'
