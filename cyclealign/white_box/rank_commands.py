"""What rank 0 tells the other ranks of a run, and what they answer; sent over a pipe that only the two of them have.

Every command is answered: by `DONE`, or by `Failed` from a rank that then ends itself. A closed pipe means that the
other side is gone. Called by `rank_processes` (rank 0) and `rank_worker` (the others).
"""

from dataclasses import dataclass
from typing import Any, Final

from cyclealign.settings import MethodSettings, TrainingSettings, WhiteBoxSettings

DONE: Final = "done"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a white box that trains is loaded from; the same on every rank."""

    settings: WhiteBoxSettings
    training: TrainingSettings
    method: MethodSettings
    seed: int
    model_path: str | None = None


@dataclass(frozen=True, slots=True)
class Join:
    """Meet the other ranks, and compute with so many threads from now on."""

    settings: WhiteBoxSettings
    threads: int


@dataclass(frozen=True, slots=True)
class Load:
    """Load the white box."""

    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Call:
    """Call a method of the white box, as every other rank does at the same time."""

    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave the group; it is the last command."""


Command = Join | Load | Call | Leave


@dataclass(frozen=True, slots=True)
class Failed:
    """The last words of a rank."""

    error: str
    """Its class and message."""
    traceback: str
    when: float
    """By the machine's monotonic clock: the first to fail is the cause of what others then report."""
