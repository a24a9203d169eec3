"""What a person sees while a run goes on: bars in a terminal, lines in a log, a progress artifact on the run page.

Shows figures only, never prompts or responses (harmful text by design).
"""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from cyclealign.report import blocks
from storage.rounds import RankedRound, SampledRound, TrainedRound

LOGGER = logging.getLogger("cyclealign")
# Prefect adds its handler, for the run page, and sets no level.
LOGGER.setLevel(logging.INFO)
Report = Callable[[str, float], None]
"""Takes a message and the share of the work that is done."""
RECENT = 40
"""Rounds over which agreement and quality are averaged."""
LINE_EVERY_S = 15.0
"""How often a line tells where a run stands when the output is a file and not a terminal."""
PUBLISH_EVERY_S = 5.0


class Pace:
    """How long what is left will take, by the pace of the last minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque(maxlen=RECENT)

    def mark(self, done: int) -> None:
        """So much is done now."""
        self._marks.append((self._clock(), done))

    def restart(self, done: int) -> None:
        """So much is done now, and was done faster than what follows will be."""
        self._marks.clear()
        self.mark(done)

    def left_s(self, total: int) -> float | None:
        """Seconds until `total` is done; None before anything was."""
        if not self._marks:
            return None
        (then, had), (now, has) = self._marks[0], self._marks[-1]
        return None if has == had else (total - has) * (now - then) / (has - had)


class Occasion:
    """Comes at most once in so many seconds, and when it is forced."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._last = float("-inf")

    def comes(self, *, forced: bool = False) -> bool:
        """Whether it is time; the next time is then so many seconds away."""
        now = time.monotonic()
        due = forced or now - self._last >= self._every_s
        self._last = now if due else self._last
        return due


@dataclass
class Progress:
    """Counts what the rounds bring and shows it.

    Args:
        steps: Steps of the run.
        candidates: l, for the share of agreement.
        quality: Grades the candidates of a round for display only; None where no truth is known.
        spend: US dollars spent so far.
        publish: Called with one line of text at most every few seconds, for the run page.
    """

    steps: int
    candidates: int
    quality: Callable[[SampledRound], float] | None = None
    spend: Callable[[], Decimal] | None = None
    publish: Callable[[str, float], None] | None = None
    pace: Pace = field(default_factory=Pace)
    reward: float | None = None
    """Of the candidates of the last segment, their mean, for display only; None while none is scored."""
    finished: int = 0
    rounds: int = 0
    replayed: int = 0
    trained: int = 0
    _agreement: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    _quality: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    _bars: Bars | None = None
    _bar: TaskID | None = None
    _publishing: Occasion = field(default_factory=lambda: Occasion(PUBLISH_EVERY_S))
    _line: Occasion = field(default_factory=lambda: Occasion(LINE_EVERY_S))
    _round: int = 0

    @contextmanager
    def showing(self, start: int = 0) -> Iterator[None]:
        """Show the bar of the cycles, which start at step `start`, for the duration of the block."""
        self.finished = start
        self.pace.mark(start)
        with bars() as shown:
            self._bars = shown
            self._bar = shown.add_task("cycles", total=self.steps, completed=start, what="")
            try:
                yield
            finally:
                self._bars = None

    def turn_done(
        self,
        sampled: Sequence[SampledRound],
        ranked: Sequence[RankedRound],
        trained: Sequence[TrainedRound],
        *,
        replayed: bool,
    ) -> None:
        """Take in one turn of a wave and show the new state."""
        self.rounds += len(ranked)
        self.replayed += len(ranked) if replayed else 0
        self.trained += len(trained)
        self.finished += sum(one.stops_step for one in ranked)
        (self.pace.restart if replayed else self.pace.mark)(self.finished)
        self._round = ranked[0].round
        self._agreement += [len(one.agreement) / self.candidates for one in ranked if one.answer]
        if self.quality is not None:
            self._quality += [self.quality(one) for one in sampled]
        self._show()
        LOGGER.info("round wave=%d %s replayed=%s", sampled[0].wave, self.state(), replayed)
        self._tell(done=self.finished == self.steps)

    def scored(self, reward: float | None) -> None:
        """Take in the mean reward of the candidates of the segment that has just ended, and show it."""
        self.reward = reward
        self._show()
        self._tell(done=self.finished == self.steps)

    def _show(self) -> None:
        if self._bars is not None and self._bar is not None:
            self._bars.update(self._bar, completed=self.finished, what=self.state())

    def state(self) -> str:
        """One line: step, round, agreement, quality, reward, spend."""
        parts = [f"step {self.finished}/{self.steps}", f"round {self._round}"]
        if self._agreement:
            parts.append(f"agreement {sum(self._agreement) / len(self._agreement):.2f}")
        if self._quality:
            parts.append(f"quality {sum(self._quality) / len(self._quality):.2f}")
        if self.reward is not None:
            parts.append(f"reward {self.reward:+.2f}")
        if self.spend is not None:
            parts.append(f"${self.spend():.2f}")
        return " · ".join(parts)

    def _tell(self, *, done: bool) -> None:
        if self.publish is not None and self._publishing.comes(forced=done):
            self.publish(self._line_with_time(), self.finished / self.steps)
        if self._bars is not None and self._bars.disable and self._line.comes(forced=done):
            _print(f"  {self._line_with_time()}")

    def _line_with_time(self) -> str:
        """For where no bar shows the time that is left."""
        left = self.pace.left_s(self.steps)
        return self.state() + (f" · {blocks.duration(left)} left" if left else "")


def bars() -> Bars:
    """Progress bars in a terminal; where the output is a file they are off, and lines are printed now and then."""
    console = Console(file=sys.stderr)
    return Bars(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[what]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def stage(title: str) -> Iterator[Report]:
    """Show one stage of preparation; the block gets `report(message, share done)`."""
    say(title)
    line = Occasion(LINE_EVERY_S)
    with bars() as shown:
        bar = shown.add_task(title, total=100, what="")

        def report(message: str, done: float) -> None:
            shown.update(bar, completed=round(100 * done), what=message)
            if line.comes():
                LOGGER.info("%s: %s %.0f%%", title, message, 100 * done)
                if shown.disable:
                    _print(f"  {message} {100 * done:.0f}%")

        yield report
        shown.update(bar, completed=100, what="done")


def say(text: str) -> None:
    """One line for the person at the terminal; in a deployment it goes to the log."""
    _print(text)
    LOGGER.info("%s", text)


def _print(text: str) -> None:
    with suppress(OSError):  # nobody reads any more, or the file is full: the run does not depend on it
        print(text, file=sys.stderr, flush=True)  # noqa: T201
