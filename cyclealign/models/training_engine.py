"""The machinery under an optimizer step: plain torch, or DeepSpeed ZeRO-2 and ZeRO-3 through accelerate.

Both split the work over the ranks of an existing launcher (torchrun, `accelerate launch`, `deepspeed`), both
run in one process without a launcher, on CPU and GPU, and both keep the same checkpoint: AdamW's moments by
adapter tensor, whole and in float32, so that a run may continue under another engine or on another number of
ranks. Called by `training_step` and `white_box`; leaves out losses and the schedule (`training_step`).
"""

import io
import math
import os
import socket
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, DeepSpeedPlugin, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, distributed, nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from cyclealign.models.checkpoint_files import Moments
from cyclealign.models.packing import Row
from cyclealign.models.sequence_scores import SequenceScores
from cyclealign.models.weights import adapter_parameters
from cyclealign.settings import TrainingSettings

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


class TorchEngine(TrainingEngine):
    """Plain torch. With several ranks the adapter's gradients are summed; nothing else needs to be shared."""

    equal_passes = False

    def __init__(self, scores: SequenceScores, training: TrainingSettings, device: torch.device) -> None:
        super().__init__(scores, training)
        state = PartialState(cpu=device.type == "cpu")
        self.rank, self.ranks = state.process_index, state.num_processes

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


class DeepSpeedEngine(TrainingEngine):
    """ZeRO-2 or ZeRO-3: gradients and optimizer state (in 3 the weights too) are partitioned over the ranks.

    Paper: Section 3.3 (DeepSpeed ZeRO-2).
    """

    equal_passes = True  # every backward pass ends in a collective reduction

    def __init__(self, scores: SequenceScores, training: TrainingSettings, device: torch.device) -> None:
        super().__init__(scores, training)
        self._stage = training.zero_stage
        _prepare_environment(device)
        # accelerate keeps one plugin per process; a second model in this process brings its own settings.
        AcceleratorState._reset_state(reset_partial_state=True)
        backend = "gloo" if device.type == "cpu" else "nccl"
        # DeepSpeed prints what it builds, and calls functions that torch has renamed.
        warnings.filterwarnings("ignore", r".*(all_gather|reduce_scatter)\w*` is deprecated", FutureWarning)
        with redirect_stdout(io.StringIO()):
            accelerator = Accelerator(
                deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=self._config(training)),
                kwargs_handlers=[InitProcessGroupKwargs(backend=backend)],
            )
            self.scores, _ = accelerator.prepare(scores, self._adamw)
        self.rank, self.ranks = accelerator.process_index, accelerator.num_processes
        # Else transformers would partition whatever this process loads from now on while it is loading.
        unset_hf_deepspeed_config()

    def _config(self, training: TrainingSettings) -> dict[str, Any]:
        return {
            "train_micro_batch_size_per_gpu": 1,  # rows are batched by tokens, so this number means nothing
            "train_batch_size": int(os.environ["WORLD_SIZE"]),
            "gradient_accumulation_steps": 1,
            "managed_gradient_accumulation": False,  # step() says when, not a count of passes
            "gradient_clipping": training.clip_norm,
            "zero_allow_untested_optimizer": True,
            "zero_optimization": {
                "stage": training.zero_stage,
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
            name: {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
            for name, parameter in self._parameters.items()
        }

    def restore(self, adapter: Mapping[str, Tensor], moments: Moments, steps: int, row: Row) -> None:
        from deepspeed.runtime.zero import GatheredParameters  # noqa: PLC0415
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state  # noqa: PLC0415

        if moments and not self._adamw.state:
            self._make_optimizer_state(row)
        parameters = list(self._parameters.values())
        with GatheredParameters(parameters, modifier_rank=0, enabled=self._stage == 3), torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(adapter[name])
        for name, parameter in self._parameters.items():
            safe_set_full_fp32_param(parameter, adapter[name].to(parameter.device))
            for key in MOMENTS if self._adamw.state else ():
                value = moments[name][key] if moments else torch.zeros(adapter[name].shape)
                safe_set_full_optimizer_state(parameter, value.to(parameter.device), key)
        for state in self._adamw.state.values():
            state["step"].fill_(steps)

    def _make_optimizer_state(self, row: Row) -> None:
        """ZeRO has no state to set before its first step, so it takes one that changes nothing."""
        self.backward(self.scores([row])[0].sum() * 0.0)
        self.step(learning_rate=0.0)


def _prepare_environment(device: torch.device) -> None:
    """What a launcher would have set; a process without one is the only rank, on loopback."""
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if "WORLD_SIZE" not in os.environ:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        alone = {
            "RANK": "0",
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        os.environ.update(alone)


def make_engine(scores: SequenceScores, training: TrainingSettings, device: torch.device) -> TrainingEngine:
    """The engine that `training.engine` names."""
    if training.engine == "torch":
        return TorchEngine(scores, training, device)
    return DeepSpeedEngine(scores, training, device)
