"""When the chaos run kills: moments drawn from a seed, waited for from outside, and named afterwards.

Nothing in the trainer helps: what it says on its error output, the files that it writes, the judge's log and the
ledger that is left are all that is looked at.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.flows.remains import Remains

Kind = Literal["start-up", "work", "call", "file"]
WEIGHTS: dict[Kind, float] = {"start-up": 0.12, "work": 0.48, "call": 0.2, "file": 0.2}
FIRST_START_S = 8.0
"""About how long a start takes (imports, Prefect's server, models), until one was seen."""
LONGEST: dict[Kind, float] = {"start-up": 1.0, "call": 0.005, "file": 0.001}
"""Longest time from a sign to a kill, in starts."""
WORKING = 0.6
"""The same for work, on average: longer than what is lost by a kill, or nothing would ever get done."""
UNDER_WAY = "Evaluation before"
"""What the trainer says when everything is loaded."""
WRITTEN = ("*/checkpoints/.step-*", "*/checkpoints/step-*", "*/adapter/*", "*/report/*", "snapshot.*")
"""In the home: what is written at a checkpoint and at the end."""
JUST_S = 0.05
"""Whoever dies so soon after writing something may have had more of the same to do."""


@dataclass(frozen=True)
class Moment:
    """So long after a sign: `start-up`: the start itself; `work`: everything is loaded; `call`: a question has
    reached the judge; `file`: something is written.
    """

    kind: Kind
    delay: float
    """In starts: the longer a start takes on this machine at this time, the longer everything takes."""


def draw(randomness: random.Random) -> Moment:
    """The next moment."""
    (kind,) = randomness.choices(list(WEIGHTS), list(WEIGHTS.values()))
    if kind == "work":
        return Moment(kind, randomness.expovariate(1 / WORKING))
    return Moment(kind, randomness.uniform(0, LONGEST[kind]))


@dataclass(frozen=True)
class Sight:
    """What can be seen of a trainer from outside."""

    home: Path
    said: Path
    """Its error output in this life."""
    asks: Callable[[], bool]
    """Whether a question of its own has just reached the judge."""
    started: float
    """Seconds since the epoch."""

    def words(self) -> str:
        """Everything it has said in this life."""
        return self.said.read_text(errors="replace")

    def written(self, since: float) -> Iterator[str]:
        """What it has written since then: `checkpoint`, `adapter`, `report` or `snapshot`."""
        for path in (path for pattern in WRITTEN for path in self.home.glob(pattern)):
            try:
                fresh = path.stat().st_mtime > since
            except FileNotFoundError:  # it was put in place meanwhile
                continue
            if fresh:
                yield "snapshot" if path.parent == self.home else path.parent.name.removesuffix("s")


class Watch:
    """Waits for moments; knows from earlier lives how long a start takes."""

    def __init__(self) -> None:
        self._start_s = FIRST_START_S
        self._seen: Sight | None = None

    def wait_for(self, moment: Moment, sight: Sight, alive: Callable[[], bool]) -> bool:
        """Wait for the moment; False when the trainer ends before it comes."""
        while not self._sign(moment.kind, sight):
            if not alive():
                return False
            time.sleep(0.001)
        until = time.monotonic() + moment.delay * self._start_s
        while (left := until - time.monotonic()) > 0 and alive():
            time.sleep(min(0.05, left))
        return alive()

    def _sign(self, kind: Kind, sight: Sight) -> bool:
        if kind == "start-up":
            return True
        if self._seen is not sight:
            if UNDER_WAY not in sight.words():
                return False
            self._seen, self._start_s = sight, time.time() - sight.started
        if kind == "call":
            return sight.asks()
        return kind == "work" or next(sight.written(sight.started), None) is not None


def phase(sight: Sight, at: float, before: Remains, left: Remains) -> str:
    """What the trainer was doing when it was killed, as far as its words, files and rows tell."""
    words = sight.words()
    if "\nRun " not in f"\n{words}":
        return "start-up"
    written = sorted(sight.written(at - JUST_S))
    if written:
        return written[0]
    stages = [line for line in words.splitlines() if line.startswith(("Evaluation", "Ranking accuracy"))]
    if not stages:
        return "loading"
    if not stages[-1].startswith(UNDER_WAY) or "responses generated" not in words:
        return "evaluation"
    return _phase_of_cycle(before, left)


def _phase_of_cycle(before: Remains, left: Remains) -> str:
    if left.in_flight:
        return "ranking"
    if left.rounds == before.rounds:
        return "replay"
    states = set(left.rounds.values())
    return "ranking" if "sampled" in states else "training" if "ranked" in states else "sampling"
