"""DeepSpeed ZeRO-2 and ZeRO-3 under an optimizer step, through accelerate.

Called by `white_box`; leaves out what all engines share (`training_engine`). Its first start on a machine
compiles a small operation, which needs a C++ compiler and ninja.
"""

import io
import math
import os
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

import torch
from accelerate import Accelerator, DeepSpeedPlugin
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from cyclealign.settings import TrainingSettings
from cyclealign.white_box.checkpoint_files import Moments
from cyclealign.white_box.packing import Row
from cyclealign.white_box.process_group import meet_nobody
from cyclealign.white_box.sequence_scores import SequenceScores
from cyclealign.white_box.training_engine import MOMENTS, TrainingEngine


class DeepSpeedEngine(TrainingEngine):
    """ZeRO-2 or ZeRO-3: gradients and optimizer state (in 3 the weights too) are partitioned over the ranks.

    Paper: Section 3.3 (DeepSpeed ZeRO-2).
    """

    equal_passes = True  # every backward pass ends in a collective reduction

    def __init__(self, scores: SequenceScores, training: TrainingSettings, device: torch.device) -> None:
        super().__init__(scores, training)
        self._stage = training.zero_stage
        backend = "gloo" if device.type == "cpu" else "nccl"
        if device.type == "cpu":
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        meet_nobody(backend)
        # accelerate keeps one plugin per process; a second model in this process brings its own settings.
        AcceleratorState._reset_state(reset_partial_state=True)
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
