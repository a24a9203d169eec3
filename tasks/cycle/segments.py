"""Segments: the steps between two checkpoints, which are one task run each, and their waves of prompts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cyclealign.settings import Settings
from storage.rounds import RankedRound


@dataclass(frozen=True)
class Segment:
    """The steps `first … last - 1`, in waves of `wave` prompts."""

    first: int
    last: int
    wave: int

    @property
    def name(self) -> str:
        """For people, who count from 1."""
        return f"steps {self.first + 1} to {self.last}"

    def waves(self) -> Iterator[range]:
        """The steps of each wave, in order."""
        for start in range(self.first, self.last, self.wave):
            yield range(start, min(start + self.wave, self.last))


@dataclass(frozen=True)
class SegmentSummary:
    """What a segment came to, for its task run's name and the run page."""

    segment: Segment
    rounds: int
    replayed: int
    trained: int
    agreement: float
    """Mean length of the agreement divided by the number of candidates."""
    seconds: float

    @classmethod
    def of(
        cls, segment: Segment, done: Sequence[RankedRound], candidates: int, replayed: int, seconds: float
    ) -> "SegmentSummary":
        """What these rounds came to, of which `replayed` were recorded before."""
        agreed = [len(one.agreement) / candidates for one in done if one.answer]
        return cls(
            segment=segment,
            rounds=len(done),
            replayed=replayed,
            trained=len(agreed),
            agreement=sum(agreed) / len(agreed) if agreed else 0.0,
            seconds=seconds,
        )


def segments(settings: Settings, steps: int, start: int = 0) -> list[Segment]:
    """The segments from step `start` on; a segment is `training.checkpoint_every` steps rounded up to whole waves."""
    wave = settings.training.wave
    size = -(-settings.training.checkpoint_every // wave) * wave
    return [
        Segment(max(first, start), min(first + size, steps), wave) for first in range(start - start % size, steps, size)
    ]
