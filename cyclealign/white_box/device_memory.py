"""Running out of a device's memory, translated around each phase of a run into what to set.

Called where the phases run (`tasks.cycle.loop`, `tasks.evaluation.responders`, …) and where models are loaded; leaves
out how much a phase takes (`cyclealign.model_sizes`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch

from cyclealign.errors import DeviceMemoryFull

_QUOTED = 300
"""Characters of torch's message, which names the device, its size and who holds how much."""


@dataclass(frozen=True, slots=True)
class Remedies:
    """Settings that make a phase smaller."""

    same_run: tuple[str, ...] = ()
    """They change no result: the same run continues with them."""
    other_run: tuple[str, ...] = ()
    """They are part of a run's settings digest."""


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
        raise DeviceMemoryFull(
            f"{doing} ran out of a device's memory: {_quoted(str(error))} {advice(remedies)}"
        ) from error


def _quoted(message: str) -> str:
    """Whole sentences of torch's message, less its advice at the end."""
    text = " ".join(message.split())
    if len(text) > _QUOTED:
        text = text[:_QUOTED].rpartition(". ")[0] or text[:_QUOTED]
    return text.removesuffix(".") + "."


def advice(remedies: Remedies) -> str:
    """What was expected, and what to do."""
    parts = [
        "Expected room for it: `cyclealign estimate` says what each phase takes, `nvidia-smi` who else holds memory.",
        "What was computed is in the ledger, and the same command continues",
    ]
    if remedies.same_run:
        parts[-1] += f", also with {' or '.join(remedies.same_run)}"
    parts[-1] += "."
    if remedies.other_run:
        parts.append(f"Under another run name, for it changes results: {' or '.join(remedies.other_run)}.")
    return " ".join(parts)
