"""Optimizer steps of runs without rounds: the baselines. Steps of the cycle are columns of its rounds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from storage.ledger import Ledger


@dataclass(frozen=True, slots=True)
class OptimizerStep:
    """One optimizer step; None for what its method does not have."""

    optimizer_step: int
    """0-based."""
    examples: int
    """Prompts that took part in it."""
    loss: float
    gradient_norm: float | None
    """Before clipping."""
    learning_rate: float
    seconds: float
    rank_loss: float | None = None
    sft_loss: float | None = None
    reward: float | None = None
    """Mean reward of the responses that it sampled."""


def record(ledger: Ledger, run_name: str, steps: Sequence[OptimizerStep]) -> None:
    """Record optimizer steps; those that are there stay as they are."""
    if steps:
        with ledger.session() as session:
            session.run("optimizer_steps/put", run_name=run_name, rows=[asdict(one) for one in steps])


def of_rounds(ledger: Ledger, run_name: str) -> int:
    """How many optimizer steps the rounds of a run took: the budget of a baseline beside it."""
    with ledger.session() as session:
        return int(session.value("optimizer_steps/of_rounds", run_name=run_name))
