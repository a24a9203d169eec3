"""Taking times fairly: two sides alternate in one run, so that what else the machine does falls on both; and memory."""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

Timed = Callable[[], float]
"""Does some work and returns its seconds."""


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of the work, to its end on the GPU where there is one."""
    started = time.perf_counter()
    work()
    torch = sys.modules.get("torch")  # who computes on a GPU has imported it
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()
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


def peak_mib() -> float:
    """The most memory that this process has held so far, in MiB.

    Linux is asked for the program's own peak: `ru_maxrss` begins with the memory of the process that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
