"""How every benchmark measures and reports: two sides in turn, a row per claim, `results.json`.

A row is a figure per repeat and the bar that their median has to clear. `results.json` is a list, a row a line, each
with the commit, versions and machine it was measured on, so that a new row replaces its predecessor and no other.
"""

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results.json"
Record = dict[str, Any]
T = TypeVar("T")


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of the work, to its end on the GPU where there is one."""
    started = time.perf_counter()
    work()
    torch = sys.modules.get("torch")  # work on a GPU has imported it
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turn(ours: Callable[[], T], peer: Callable[[], T], repeats: int) -> list[tuple[T, T]]:
    """(ours, peer) per repeat, one right after the other, so that other load falls on both; each begins every other."""
    pairs = []
    for repeat in range(repeats):
        if repeat % 2:
            second = peer()
            pairs.append((ours(), second))
        else:
            pairs.append((ours(), peer()))
    return pairs


def timed_in_turn(ours: Callable[[], object], peer: Callable[[], object], repeats: int) -> list[tuple[float, float]]:
    """The seconds of (ours, peer) per repeat, after each has run once to warm up."""
    ours(), peer()
    return in_turn(lambda: seconds(ours), lambda: seconds(peer), repeats)


def speedups(pairs: Iterable[tuple[float, float]]) -> tuple[float, ...]:
    """How many times as long the peer takes, per repeat of (ours, peer)."""
    return tuple(peer / ours for ours, peer in pairs)


def peak_mib() -> float:
    """The most memory that this process has held so far, in MiB.

    Linux reports the program's own peak; `ru_maxrss` begins with the memory of the process that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


@dataclass(frozen=True, slots=True)
class Row:
    """One claim and the figures of its repeats.

    Without `values` it cannot be measured on this machine, and `note` says why. A figure without a `unit` is a ratio.
    The median has to lie between the bars; reaching one exactly is enough.
    """

    name: str
    values: tuple[float, ...] = ()
    unit: str | None = None
    note: str | None = None
    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def missed(self) -> bool:
        """Whether the median does not clear the bar; an unmeasured row misses nothing."""
        return bool(self.values) and not self.at_least <= median(self.values) <= self.at_most

    def record(self) -> Record:
        """The row in `results.json`, figures rounded to four significant digits."""
        figures = (median(self.values), min(self.values), max(self.values)) if self.values else (None,) * 3
        ratio, low, high = (one if one is None else float(f"{one:.4g}") for one in figures)
        bars = {kind: bar for kind in ("at_least", "at_most") if math.isfinite(bar := getattr(self, kind))}
        record = {"name": self.name, "ratio": ratio, **bars, "low": low, "high": high, "repeats": len(self.values)}
        return record | {key: value for key in ("unit", "note") if (value := getattr(self, key)) is not None}

    def __str__(self) -> str:
        """The row for a terminal; a missed bar says so in words."""
        known, unit = self.record(), f" {self.unit}" if self.unit else ""
        bar = ", ".join(f"{kind.replace('_', ' ')} {known[kind]:g}{unit}" for kind in known if kind.startswith("at_"))
        verdict = "not measured" if not self.values else "MISSED" if self.missed else "ok"
        spread = f"{known['low']:g} … {known['high']:g} in {known['repeats']}" if self.values else ""
        figure = f"{known['ratio']:g}{unit} ({spread}), " if self.values else ""
        return f"{verdict}: {self.name}: {figure}{bar}" + (f"\n    {self.note}" if self.note else "")


def provenance() -> Record:
    """Commit, package versions, machine and time, which stand beside every figure."""
    from tasks.machine import git_commit, machine, package_versions  # noqa: PLC0415  imports torch

    return {
        "commit": git_commit(),
        "package_versions": package_versions(),
        "machine": machine(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def keep(rows: Iterable[Row], path: Path = RESULTS) -> None:
    """Put the rows in the places of those of the same name in the file; a kill leaves the old file whole."""
    stamp, known = provenance(), json.loads(path.read_text()) if path.exists() else []
    by_name = {one["name"]: one for one in known} | {row.name: row.record() | stamp for row in rows}
    unfinished = path.with_suffix(".new")
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in by_name.values())
    unfinished.write_text(f"[\n{lines}\n]\n")
    unfinished.replace(path)
