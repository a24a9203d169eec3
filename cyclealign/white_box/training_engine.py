"""The machinery under an optimizer step: what every engine does, and plain torch.

Engines split the work over the ranks that this process is one of, or do all of it where it is alone, on CPU and GPU,
and keep the same checkpoint: AdamW's moments by adapter tensor, whole and in float32, so that a run may continue under
another engine or on another number of ranks. The ranks of a run are started by its flow (`rank_processes`), which
refuses a launcher of its own process; a program that has only models and no flow may be started by torchrun, as the
tests of the engines are. Called by `training_step` and `white_box`; leaves out DeepSpeed (`deepspeed_engine`), losses
and the schedule (`training_step`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import Tensor, distributed, nn

from cyclealign.settings import TrainingSettings
from cyclealign.white_box.checkpoint_files import Moments
from cyclealign.white_box.packing import Row
from cyclealign.white_box.sequence_scores import SequenceScores
from cyclealign.white_box.weights import adapter_parameters

T = TypeVar("T")
MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state besides its step count."""


class TrainingEngine(ABC):
    """One AdamW over the adapter of `scores`, the module that maps rows to log-probabilities."""

    rank: int
    ranks: int
    equal_passes: bool
    """Whether every rank must run as many backward passes as the others."""

    def __init__(self, scores: SequenceScores, training: TrainingSettings) -> None:
        self.scores: Any = scores
        """Called with rows to train on; DeepSpeed puts its engine here."""
        self.packed = scores.packed
        self._parameters = adapter_parameters(scores.model)
        self._clip_norm = training.clip_norm
        # The learning rate is set before every step: it is a function of the step's number, not a state.
        self._adamw = torch.optim.AdamW(
            list(self._parameters.values()), lr=training.learning_rate, weight_decay=training.weight_decay
        )

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of this rank's share of the loss; what is minimised is the sum of all shares."""

    @abstractmethod
    def discard_gradients(self) -> None:
        """Forgets what `backward` added since the last step.

        ZeRO has then already reduced a part of it: after a divergence there, load the model anew.
        """

    @abstractmethod
    def step(self, learning_rate: float) -> float:
        """Clips, updates the adapter and returns the gradient's norm before clipping.

        A gradient that is not finite updates nothing and comes back as a norm that is not finite.
        """

    @abstractmethod
    def adapter(self) -> dict[str, Tensor]:
        """The adapter's tensors by peft's names, whole, in float32. Every rank must call it."""

    @abstractmethod
    def moments(self) -> dict[str, dict[str, Tensor]]:
        """AdamW's moments by adapter tensor, whole; empty before the first step. Every rank must call it."""

    @abstractmethod
    def restore(self, adapter: Mapping[str, Tensor], moments: Moments, steps: int, row: Row) -> None:
        """Puts adapter and optimizer where they were after `steps` steps; `row` is any row, to run once."""

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


class Shares:
    """Prompts shared out over an engine's ranks. Without an engine all are this rank's."""

    def __init__(self, engine: TrainingEngine | None = None) -> None:
        self._engine = engine

    def mine(self, count: int) -> list[int]:
        """Which of so many prompts this rank does."""
        if self._engine is None:
            return list(range(count))
        return list(range(self._engine.rank, count, self._engine.ranks))

    def together(self, found: Sequence[tuple[int, list[T]]], count: int) -> list[list[T]]:
        """What all ranks found, each with its prompt's number, in the order of the prompts."""
        by_prompt = dict(found if self._engine is None else self._engine.gather(found))
        return [by_prompt.get(prompt, []) for prompt in range(count)]


class TorchEngine(TrainingEngine):
    """Plain torch. With several ranks the adapter's gradients are summed; nothing else needs to be shared."""

    equal_passes = False

    def __init__(self, scores: SequenceScores, training: TrainingSettings, device: torch.device) -> None:
        super().__init__(scores, training)
        if not distributed.is_initialized():
            PartialState(cpu=device.type == "cpu")  # meets torchrun's other processes, where there are any
        together = distributed.is_initialized()
        self.rank = distributed.get_rank() if together else 0
        self.ranks = distributed.get_world_size() if together else 1

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def discard_gradients(self) -> None:
        self._adamw.zero_grad(set_to_none=True)

    def step(self, learning_rate: float) -> float:
        parameters = list(self._parameters.values())
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if self.ranks > 1:
                distributed.all_reduce(parameter.grad)
        norm = float(nn.utils.clip_grad_norm_(parameters, self._clip_norm))
        if math.isfinite(norm):
            self._set_learning_rate(learning_rate)
            self._adamw.step()
        self.discard_gradients()
        return norm

    def adapter(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    def moments(self) -> dict[str, dict[str, Tensor]]:
        states = {name: self._adamw.state.get(parameter) for name, parameter in self._parameters.items()}
        return {name: {key: state[key] for key in MOMENTS} for name, state in states.items() if state}

    def restore(self, adapter: Mapping[str, Tensor], moments: Moments, steps: int, row: Row) -> None:
        del row  # only ZeRO needs one
        for name, parameter in self._parameters.items():
            parameter.data.copy_(adapter[name])
            self._adamw.state.pop(parameter, None)
            if name in moments:
                state = {key: moments[name][key].to(parameter) for key in MOMENTS}
                self._adamw.state[parameter] = {"step": torch.tensor(float(steps)), **state}
