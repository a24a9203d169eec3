"""How long the slower side of a cycle does nothing, from the times in the ledger.

A cycle has two sides: computing (sampling, scoring and training, one at a time) and answers that are outstanding (from
the sending of a question to the record of its answer). With waves that overlap, the slower of the two should be at work
all the time, and the other one in its shadow. A side's time is that of the union of its intervals, as far as they lie
within the cycle's wall time: from the beginning of the first sampling to the end of the last optimizer step. The slower
side is the one with more of it; its idle share is the part of the wall time in which it does nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from storage.asking import answer

Interval = tuple[float, float]
"""Begin and end, seconds since the epoch."""

COMPUTING = """
    select
        epoch(max(sampled_at)) - sum(sampling_seconds + scoring_seconds) as first_second,
        epoch(max(sampled_at)) as last_second
    from rounds where run_name = '{run}' group by wave, round
    union all
    select epoch(max(trained_at)) - sum(training_seconds), epoch(max(trained_at))
    from rounds where run_name = '{run}' and trained_at is not null group by wave, round
    """
"""One row per turn of a wave and kind of work; the seconds of a wave are shared among its rounds."""
ANSWERS = """
    select epoch(api_attempts.started_at) as first_second, epoch(api_attempts.ended_at) as last_second
    from api_attempts inner join api_calls on api_attempts.call_key = api_calls.call_key
    where api_attempts.run_name = '{run}' and api_calls.purpose = 'ranking'
    """
"""One row per time a question was sent."""


@dataclass(frozen=True)
class Sides:
    """The intervals of a cycle's two sides."""

    computing: tuple[Interval, ...]
    answers: tuple[Interval, ...]

    @property
    def wall(self) -> Interval:
        """The cycle: all of its computing, and what lies between."""
        return min(begin for begin, _ in self.computing), max(end for _, end in self.computing)

    def busy(self) -> dict[str, float]:
        """Seconds in which each side was at work."""
        return {"computing": covered(self.computing, self.wall), "answers": covered(self.answers, self.wall)}

    @property
    def slower(self) -> str:
        """The side with more work, `computing` or `answers`."""
        busy = self.busy()
        return max(busy, key=lambda side: busy[side])

    @property
    def idle_share(self) -> float:
        """The share of the wall time in which the slower side does nothing."""
        begin, end = self.wall
        return 1 - max(self.busy().values()) / (end - begin)


def covered(intervals: Iterable[Interval], within: Interval) -> float:
    """Seconds of the union of the intervals, as far as they lie within the given one."""
    total, reached = 0.0, within[0]
    for begin, end in sorted(intervals):
        from_here = max(begin, reached)
        reached = max(reached, min(end, within[1]))
        total += max(0.0, reached - from_here)
    return total


def sides(home: Path, run: str) -> Sides:
    """Of the cycle of a run in the ledger of `home`."""

    def read(query: str) -> tuple[Interval, ...]:
        frame, _ = answer(home, query.format(run=run))
        return tuple((float(begin), float(end)) for begin, end in frame.to_numpy())

    return Sides(read(COMPUTING), read(ANSWERS))
