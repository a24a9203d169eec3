"""One optimizer step on L = L_rank + λ·L_sft, averaged over prompts, and the engines under it: plain torch and ZeRO.

The losses are `cyclealign.method.objectives`; p(y) is always the length-normalised mean here, whatever ranks. Engines
split the work over the ranks that this process has joined (`process_group`), or do all of it, on CPU and GPU, and keep
the same checkpoint: AdamW's moments by adapter tensor, whole and in float32, so that a run may continue under another
engine or on another number of ranks. Called by `white_box`. Paper: Section 2.3, Eq. 1 and 2.
"""

import io
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any, NamedTuple, TypeVar

import torch
from accelerate import Accelerator, DeepSpeedPlugin
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, distributed, nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from cyclealign.errors import TrainingDiverged
from cyclealign.method.log_probabilities import confidence
from cyclealign.method.objectives import rank_loss, sft_loss
from cyclealign.model_sizes import TRAINING_TOKENS
from cyclealign.records import OptimizerReport, TrainingExample
from cyclealign.settings import TrainingSettings
from cyclealign.white_box.loading import Recipe
from cyclealign.white_box.process_group import meet_nobody
from cyclealign.white_box.sequence_scores import Row, SequenceScores, plan_passes
from cyclealign.white_box.weights import Moments, adapter_parameters

T = TypeVar("T")
_MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state besides its step count."""
_ADVICE = (
    "Expected finite, moderate values; the weights were not updated. "
    "Lower training.learning_rate or training.clip_norm, or raise training.warmup_steps."
)


class ExampleLosses(NamedTuple):
    """The losses of the example with this number."""

    number: int
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
    engine: "TrainingEngine", recipe: Recipe, examples: Sequence[TrainingExample], rows: Sequence[Row], rate: float
) -> OptimizerReport:
    """One update on the mean loss over the examples, which every rank passes whole and computes a share of.

    Args:
        rows: Each example's prompt and responses as token ids.

    Raises:
        TrainingDiverged: a loss or gradient is not finite, or a loss exceeds `max_loss`. Nothing was updated.
    """
    losses = [
        loss for indices in _my_passes(engine, rows) for loss in _run_pass(engine, recipe, examples, rows, indices)
    ]
    ordered = sorted(engine.gather(losses))
    try:
        _refuse_divergence(recipe, examples, ordered)
    except TrainingDiverged:
        engine.discard_gradients()
        raise
    norm = engine.step(rate)
    if not math.isfinite(norm):
        names = ", ".join(example.prompt.prompt_id for example in examples)
        raise TrainingDiverged(f"The gradient is not finite (norm {norm}) for the prompts {names}. {_ADVICE}")
    rank_losses, sft_losses = tuple(loss.rank for loss in ordered), tuple(loss.sft for loss in ordered)
    total = math.fsum(rank_losses) + recipe.method.lambda_sft * math.fsum(sft_losses)
    return OptimizerReport(total / len(examples), norm, rate, rank_losses, sft_losses)


def _my_passes(engine: "TrainingEngine", rows: Sequence[Row]) -> list[list[int]]:
    """This rank's passes, as indices of rows; filled up with empty ones where all ranks need equally many."""

    def passes(rank: int) -> list[list[int]]:
        share = range(rank, len(rows), engine.ranks)
        planned = plan_passes([rows[index] for index in share], TRAINING_TOKENS, packed=engine.packed)
        return [[share[position] for position in positions] for positions in planned]

    mine = passes(engine.rank)
    most = max(len(passes(rank)) for rank in range(engine.ranks)) if engine.equal_passes else len(mine)
    return mine + [[] for _ in range(most - len(mine))]


def _run_pass(
    engine: "TrainingEngine",
    recipe: Recipe,
    examples: Sequence[TrainingExample],
    rows: Sequence[Row],
    indices: Sequence[int],
) -> list[ExampleLosses]:
    """Forward and backward of these examples; an empty pass computes the first row for nothing."""
    total, tokens = engine.scores([rows[index] for index in indices] or [rows[0]])
    p = confidence(total, tokens, "mean")
    nothing = p.new_zeros(())
    losses, loss, start = [], p.sum() * 0.0, 0
    for index in indices:
        example = examples[index]
        own = p[start : start + len(example.responses)]
        start += len(example.responses)
        order = list(example.preference)
        rank = rank_loss(recipe.method.objective, own[order]) if len(order) > 1 else nothing
        sft = nothing if example.target is None else sft_loss(own[example.target])
        losses.append(ExampleLosses(index, rank.item(), sft.item()))
        loss = loss + rank + recipe.method.lambda_sft * sft
    engine.backward(loss / len(examples))
    return losses


def _refuse_divergence(recipe: Recipe, examples: Sequence[TrainingExample], losses: Sequence[ExampleLosses]) -> None:
    most = recipe.training.max_loss
    totals = [loss.rank + recipe.method.lambda_sft * loss.sft for loss in losses]
    # Written so that NaN is refused too.
    bad = [(example, total) for example, total in zip(examples, totals, strict=True) if not total <= most]
    if bad:
        named = ", ".join(f"{example.prompt.prompt_id} ({total:.4g})" for example, total in bad)
        raise TrainingDiverged(
            f"Loss not finite or above training.max_loss = {most:g} for the prompts {named}. {_ADVICE}"
        )


class TrainingEngine:
    """One AdamW over the adapter of `scores`, in plain torch; several ranks sum the adapter's gradients, no more."""

    equal_passes = False
    """Whether every rank must run as many backward passes as the others."""

    def __init__(self, scores: SequenceScores, training: TrainingSettings, device: torch.device) -> None:
        self.scores: Any = scores
        """Called with rows to train on; DeepSpeed puts its engine here."""
        self.packed = scores.packed
        self._parameters = adapter_parameters(scores.model)
        self._training = training
        # The learning rate is set before every step: it is a function of the step's number, not a state.
        self._adamw = torch.optim.AdamW(
            list(self._parameters.values()), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        self._wrap(device)
        together = distributed.is_initialized()
        self.rank, self.ranks = (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)

    def _wrap(self, device: torch.device) -> None:
        """Put scores and optimizer under the engine; plain torch takes them as they are."""

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of this rank's share of the loss; what is minimised is the sum of all shares."""
        loss.backward()  # type: ignore[no-untyped-call]

    def discard_gradients(self) -> None:
        """Forgets what `backward` added since the last step.

        ZeRO has then already reduced a part of it: after a divergence there, load the model anew.
        """
        self._adamw.zero_grad(set_to_none=True)

    def step(self, learning_rate: float) -> float:
        """Clips, updates the adapter and returns the gradient's norm before clipping.

        A gradient that is not finite updates nothing and comes back as a norm that is not finite.
        """
        parameters = list(self._parameters.values())
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if self.ranks > 1:
                distributed.all_reduce(parameter.grad)
        norm = float(nn.utils.clip_grad_norm_(parameters, self._training.clip_norm))
        if math.isfinite(norm):
            self._set_learning_rate(learning_rate)
            self._adamw.step()
        self.discard_gradients()
        return norm

    def adapter(self) -> dict[str, Tensor]:
        """The adapter's tensors by peft's names, whole, in float32. Every rank must call it."""
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """AdamW's moments by adapter tensor, whole; empty before the first step. Every rank must call it."""
        states = {name: self._adamw.state.get(parameter) for name, parameter in self._parameters.items()}
        return {name: {key: state[key] for key in _MOMENTS} for name, state in states.items() if state}

    def restore(self, adapter: Mapping[str, Tensor], moments: Moments, steps: int, row: Row) -> None:
        """Puts adapter and optimizer where they were after `steps` steps; `row` is any row, which ZeRO runs once."""
        del row
        for name, parameter in self._parameters.items():
            parameter.data.copy_(adapter[name])
            self._adamw.state.pop(parameter, None)
            if name in moments:
                state = {key: moments[name][key].to(parameter) for key in _MOMENTS}
                self._adamw.state[parameter] = {"step": torch.tensor(float(steps)), **state}

    def gather(self, items: Sequence[T]) -> list[T]:
        """The items of all ranks, by rank; the same list on every rank."""
        if self.ranks == 1:
            return list(items)
        gathered: list[list[T]] = [[] for _ in range(self.ranks)]
        distributed.all_gather_object(gathered, list(items))
        return [item for of_rank in gathered for item in of_rank]

    def _set_learning_rate(self, learning_rate: float) -> None:
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate


class DeepSpeedEngine(TrainingEngine):
    """ZeRO-2 or ZeRO-3 through accelerate: gradients and optimizer state (in 3 the weights too) are partitioned.

    Paper: Section 3.3 (DeepSpeed ZeRO-2).
    """

    equal_passes = True  # every backward pass ends in a collective reduction

    def _wrap(self, device: torch.device) -> None:
        backend = "gloo" if device.type == "cpu" else "nccl"
        if device.type == "cpu":
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
            from deepspeed import ops  # noqa: PLC0415 - builds for a device on import

            # DeepSpeed 0.19: else the first start compiles, for a minute, an operation that only inference uses
            ops.__compatible_ops__["deepspeed_shm_comm"] = False
        meet_nobody(backend)
        # accelerate keeps one plugin per process; a second model in this process brings its own settings.
        AcceleratorState._reset_state(reset_partial_state=True)
        # DeepSpeed prints what it builds, and calls functions that torch has renamed.
        warnings.filterwarnings("ignore", r".*(all_gather|reduce_scatter)\w*` is deprecated", FutureWarning)
        with redirect_stdout(io.StringIO()):
            accelerator = Accelerator(
                deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=self._config()),
                kwargs_handlers=[InitProcessGroupKwargs(backend=backend)],
            )
            self.scores, _ = accelerator.prepare(self.scores, self._adamw)
        # Else transformers would partition whatever this process loads from now on while it is loading.
        unset_hf_deepspeed_config()

    def _config(self) -> dict[str, Any]:
        return {
            "train_micro_batch_size_per_gpu": 1,  # rows are batched by tokens, so this number means nothing
            "train_batch_size": int(os.environ["WORLD_SIZE"]),
            "gradient_accumulation_steps": 1,
            "managed_gradient_accumulation": False,  # step() says when, not a count of passes
            "gradient_clipping": self._training.clip_norm,
            "zero_allow_untested_optimizer": True,
            "zero_optimization": {
                "stage": self._training.zero_stage,
                "reduce_bucket_size": sum(parameter.numel() for parameter in self._parameters.values()),
            },
        }

    def backward(self, loss: Tensor) -> None:
        self.scores.backward(loss * self.ranks)  # DeepSpeed averages over ranks

    def discard_gradients(self) -> None:
        self.scores.optimizer.zero_grad(set_to_none=True)

    def step(self, learning_rate: float) -> float:
        self._set_learning_rate(learning_rate)
        self.scores.step()
        return math.inf if self.scores.optimizer.overflow else float(self.scores.get_global_grad_norm())

    def adapter(self) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_fp32_param  # noqa: PLC0415 - builds for a device on import

        return {name: safe_get_full_fp32_param(parameter) for name, parameter in self._parameters.items()}

    def moments(self) -> dict[str, dict[str, Tensor]]:
        from deepspeed.utils import safe_get_full_optimizer_state  # noqa: PLC0415

        if not self._adamw.state:
            return {}
        return {
            name: {key: safe_get_full_optimizer_state(parameter, key) for key in _MOMENTS}
            for name, parameter in self._parameters.items()
        }

    def restore(self, adapter: Mapping[str, Tensor], moments: Moments, steps: int, row: Row) -> None:
        from deepspeed.runtime.zero import GatheredParameters  # noqa: PLC0415
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state  # noqa: PLC0415

        if moments and not self._adamw.state:  # ZeRO has none to set before its first step: one that changes nothing
            self.backward(self.scores([row])[0].sum() * 0.0)
            self.step(learning_rate=0.0)
        parameters, partitioned = list(self._parameters.values()), self._training.zero_stage == 3
        with GatheredParameters(parameters, modifier_rank=0, enabled=partitioned), torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(adapter[name])
        for name, parameter in self._parameters.items():
            safe_set_full_fp32_param(parameter, adapter[name].to(parameter.device))
            for key in _MOMENTS if self._adamw.state else ():
                value = moments[name][key] if moments else torch.zeros(adapter[name].shape)
                safe_set_full_optimizer_state(parameter, value.to(parameter.device), key)
        for state in self._adamw.state.values():
            state["step"].fill_(steps)
