"""One optimizer step on L = L_rank + λ·L_sft, averaged over prompts, and the learning rate of that step.

The losses are `cyclealign.method.objectives`; p(y) is always the length-normalised mean here, whatever ranks.
Called by `white_box`; leaves out how gradients become an update (`training_engine`).
Paper: Section 2.3, Eq. 1 and 2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from cyclealign.errors import TrainingDiverged
from cyclealign.method.log_probabilities import confidence
from cyclealign.method.objectives import rank_loss, sft_loss
from cyclealign.records import OptimizerReport, TrainingExample
from cyclealign.settings import TrainingSettings
from cyclealign.white_box.packing import Row
from cyclealign.white_box.pass_sizes import TRAINING_TOKENS
from cyclealign.white_box.sequence_scores import plan_passes
from cyclealign.white_box.training_engine import TrainingEngine


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised: `rank` names L_rank, `lambda_sft` is λ; a loss above `max_loss` is divergence."""

    rank: Literal["rrhf", "pro", "none"]
    lambda_sft: float
    max_loss: float


@dataclass(frozen=True, slots=True)
class ExampleLosses:
    """The losses of the example at `index`."""

    index: int
    rank: float
    sft: float


def learning_rate(training: TrainingSettings, step: int, progress: float) -> float:
    """The learning rate of 0-based optimizer step `step`: linear warm-up, then constant or linear decay.

    Decay follows the share of the run's prompts that are done, not the steps: how many steps there will be is
    not known, since prompts stop early (Deviation 14).
    """
    rate = training.learning_rate * min(1.0, (step + 1) / max(1, training.warmup_steps))
    if training.decay == "constant":
        return rate
    return rate * (1 - progress * (1 - training.final_learning_rate_share))


def take_step(
    engine: TrainingEngine, examples: Sequence[TrainingExample], rows: Sequence[Row], objective: Objective, rate: float
) -> OptimizerReport:
    """One update on the mean loss over the examples, which every rank passes whole and computes a share of.

    Args:
        rows: Each example's prompt and responses as token ids.

    Raises:
        TrainingDiverged: a loss or gradient is not finite, or a loss exceeds `max_loss`. Nothing was updated.
    """
    losses = [
        loss for indices in _my_passes(engine, rows) for loss in _run_pass(engine, examples, rows, indices, objective)
    ]
    by_example = {loss.index: loss for loss in engine.gather(losses)}
    ordered = [by_example[index] for index in range(len(examples))]
    try:
        _refuse_divergence(examples, ordered, objective)
    except TrainingDiverged:
        engine.discard_gradients()
        raise
    norm = engine.step(rate)
    if not math.isfinite(norm):
        names = ", ".join(example.prompt.prompt_id for example in examples)
        raise TrainingDiverged(f"The gradient is not finite (norm {norm}) for the prompts {names}. {_ADVICE}")
    rank_losses, sft_losses = tuple(loss.rank for loss in ordered), tuple(loss.sft for loss in ordered)
    total = math.fsum(rank_losses) + objective.lambda_sft * math.fsum(sft_losses)
    return OptimizerReport(total / len(examples), norm, rate, rank_losses, sft_losses)


_ADVICE = (
    "Expected finite, moderate values; the weights were not updated. "
    "Lower training.learning_rate or training.clip_norm, or raise training.warmup_steps."
)


def _my_passes(engine: TrainingEngine, rows: Sequence[Row]) -> list[list[int]]:
    """This rank's passes, as indices of rows; filled up with empty ones where all ranks need equally many."""

    def passes(rank: int) -> list[list[int]]:
        share = range(rank, len(rows), engine.ranks)
        planned = plan_passes([rows[index] for index in share], TRAINING_TOKENS, packed=engine.packed)
        return [[share[position] for position in positions] for positions in planned]

    mine = passes(engine.rank)
    most = max(len(passes(rank)) for rank in range(engine.ranks)) if engine.equal_passes else len(mine)
    return mine + [[] for _ in range(most - len(mine))]


def _run_pass(
    engine: TrainingEngine,
    examples: Sequence[TrainingExample],
    rows: Sequence[Row],
    indices: Sequence[int],
    objective: Objective,
) -> list[ExampleLosses]:
    """Forward and backward of these examples; an empty pass computes the first row for nothing."""
    total, tokens = engine.scores([rows[index] for index in indices] or [rows[0]])
    p = confidence(total, tokens, "mean")
    losses, loss, start = [], p.sum() * 0.0, 0
    for index in indices:
        example = examples[index]
        rank, sft = example_losses(p[start : start + len(example.responses)], example, objective)
        start += len(example.responses)
        losses.append(ExampleLosses(index, rank.item(), sft.item()))
        loss = loss + rank + objective.lambda_sft * sft
    engine.backward(loss / len(examples))
    return losses


def example_losses(p: Tensor, example: TrainingExample, objective: Objective) -> tuple[Tensor, Tensor]:
    """L_rank and L_sft (before λ) of one example; p: [R] mean log-probabilities of its responses."""
    nothing = p.new_zeros(())
    rank = rank_loss(objective.rank, p[list(example.preference)]) if len(example.preference) > 1 else nothing
    sft = nothing if example.target is None else sft_loss(p[example.target])
    return rank, sft


def _refuse_divergence(
    examples: Sequence[TrainingExample], losses: Sequence[ExampleLosses], objective: Objective
) -> None:
    totals = {losses_.index: losses_.rank + objective.lambda_sft * losses_.sft for losses_ in losses}
    # Written so that NaN is refused too.
    bad = [index for index, total in totals.items() if not total <= objective.max_loss]
    if bad:
        named = ", ".join(f"{examples[index].prompt.prompt_id} ({totals[index]:.4g})" for index in bad)
        raise TrainingDiverged(
            f"Loss not finite or above training.max_loss = {objective.max_loss:g} for the prompts {named}. {_ADVICE}"
        )
