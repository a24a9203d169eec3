"""Running out of a device's memory, translated around each phase of a run into what to set.

Called where the phases run (`tasks.cycle.loop`, `tasks.evaluation.responders`, …) and where models are loaded; leaves
out how much a phase takes (`cyclealign.model_sizes`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import torch

from cyclealign.errors import DeviceMemoryFull


class Remedies(NamedTuple):
    """Settings that make a phase smaller: without a change of results, so that the same run continues, or with one."""

    same_run: tuple[str, ...]
    other_run: tuple[str, ...]


_REWARDS_LATER = "evaluation.score_during_training=false, where it and evaluation.score_candidates are true"
_MORE_RANKS = "training.ranks=R on R GPUs"
_QUANTIZED = "white_box.quantization=nf4"

LOADING: Final = Remedies((_REWARDS_LATER,), (_QUANTIZED,))
SAMPLING: Final = Remedies((_MORE_RANKS, _REWARDS_LATER), ("a lower training.wave", _QUANTIZED))
SCORING: Final = Remedies((_REWARDS_LATER,), (_QUANTIZED,))
TRAINING: Final = Remedies((_REWARDS_LATER,), ("training.gradient_checkpointing=true", _QUANTIZED))
HELD_OUT: Final = Remedies(("a lower evaluation.batch", _REWARDS_LATER), (_QUANTIZED,))
REWARDS: Final = Remedies((_REWARDS_LATER,), ("a smaller evaluation.reward_model_name",))
ANY: Final = Remedies(
    ("a lower evaluation.batch", _REWARDS_LATER),
    ("a lower training.wave", "training.gradient_checkpointing=true", _QUANTIZED),
)
"""Of a phase that is not known."""


@contextmanager
def fitting(doing: str, remedies: Remedies) -> Iterator[None]:
    """Turn running out of memory in the block into an error that says what to set.

    Args:
        doing: The phase and its size, as the beginning of a sentence: `Sampling 48 responses`.
        remedies: What to set.

    Raises:
        DeviceMemoryFull: the block ran out of a device's memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        # Whole sentences of torch's message: the device, its size, who holds how much; less the advice at its end.
        text = " ".join(str(error).split())
        if len(text) > 300:
            text = text[:300].rpartition(". ")[0] or text[:300]
        said = text.removesuffix(".")
        raise DeviceMemoryFull(f"{doing} ran out of a device's memory: {said}. {advice(remedies)}") from error


def advice(remedies: Remedies) -> str:
    """What was expected, and what to do."""
    parts = [
        "Expected room for it: `cyclealign estimate` says what each phase takes, `nvidia-smi` who else holds memory.",
        "What was computed is in the ledger, and the same command continues",
    ]
    parts[-1] += f", also with {' or '.join(remedies.same_run)}."
    parts.append(f"Under another run name, for it changes results: {' or '.join(remedies.other_run)}.")
    return " ".join(parts)
