"""How fast one endpoint may be asked: one gate for all calls to it.

A failure that says "too much" halves the number of calls under way, every success raises it a little (additive
increase, multiplicative decrease); a wait that the endpoint asks for holds every call; a closed gate lets none
through any more. A gate belongs to one event loop. Leaves out what a failure means (`tasks.asking.protocol`).
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from cyclealign.errors import RunPaused


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waiting times between attempts: doubling from `first_s` to `most_s` seconds, jittered down to half."""

    first_s: float = 1.0
    most_s: float = 60.0

    def seconds(self, attempt: int, seed: int) -> float:
        """The wait after the given attempt, counted from 1; the same seed waits equally long."""
        return min(self.most_s, self.first_s * 2.0 ** (attempt - 1)) * random.Random(seed).uniform(0.5, 1.0)


PATIENT: Final = Backoff()


class Gate:
    """Lets at most `most` calls through at once. Times are seconds of the event loop's clock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._allowed = float(most)
        self._under_way = 0
        self._not_before = 0.0
        self._slowed_at = 0.0
        self._closed_by: RunPaused | None = None
        self._changed = asyncio.Event()

    @property
    def allowed(self) -> int:
        """Calls that may be under way at once now."""
        return int(self._allowed)

    @asynccontextmanager
    async def place(self, not_before: float = 0.0) -> AsyncIterator[float]:
        """Wait for a place among the calls under way, and until the given time; yields the moment of entering.

        Raises:
            RunPaused: the gate is closed.
        """
        while (wait := self._wait(not_before)) != 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)
        self._under_way += 1
        try:
            yield now()
        finally:
            self._under_way -= 1
            self._wake()

    async def change(self) -> None:
        """Wait until a call leaves or the gate closes."""
        await self._changed.wait()

    def speed_up(self) -> None:
        """A call came through: about one place more for every round of successes."""
        self._allowed = min(float(self._most), self._allowed + 1 / self._allowed)

    def slow_down(self, entered: float) -> None:
        """A call that entered at this moment was too much: half the places, once for all calls of a time."""
        if entered >= self._slowed_at:
            self._allowed = max(1.0, self._allowed / 2)
            self._slowed_at = now()

    def hold(self, seconds: float) -> None:
        """Let no call through for so long."""
        self._not_before = max(self._not_before, now() + seconds)

    def close(self, error: RunPaused) -> None:
        """Let no call through any more: those that wait or come later get this error."""
        self._closed_by = self._closed_by or error
        self._wake()

    def _wait(self, not_before: float) -> float | None:
        """Seconds until it is worth looking again: 0 = enter, None = when something changes."""
        if self._closed_by is not None:
            raise type(self._closed_by)(str(self._closed_by))
        early = max(not_before, self._not_before) - now()
        if early > 0:
            return early
        return 0 if self._under_way < self.allowed else None

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def now() -> float:
    """The event loop's clock, seconds."""
    return asyncio.get_running_loop().time()
