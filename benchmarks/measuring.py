"""Taking times fairly: two sides alternate in one run, so that what else the machine does falls on both."""

import time
from collections.abc import Callable

Timed = Callable[[], float]
"""Does some work and returns its seconds."""


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of the work. On a GPU the work has to wait for its own end."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def side_by_side(ours: Timed, peer: Timed, repeats: int) -> list[tuple[float, float]]:
    """The seconds of (ours, peer) per repeat, one right after the other; who begins changes with every repeat."""
    pairs = []
    for repeat in range(repeats):
        if repeat % 2:
            second = peer()
            pairs.append((ours(), second))
        else:
            first = ours()
            pairs.append((first, peer()))
    return pairs
