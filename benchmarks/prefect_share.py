"""What Prefect costs: its share of a laptop run, from the start of the process to its end.

The same run once as the user starts it, with the start of Prefect's own server and the wait for its last records, and
once with Prefect taken away (`benchmarks.no_prefect`), each in a fresh process and an empty home, one right after the
other. What a user has after the first run is there before: the dialogue world, and Prefect's database. The two sides
have to end with the same weights, or there is nothing to compare.

It is the profile as it is: fewer prompts would make the run shorter, not Prefect's start, and so overstate the share.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.laptop_run import PROFILE
from benchmarks.measuring import seconds, side_by_side
from benchmarks.rows import Row, at_most

ROOT = Path(__file__).parent.parent
REPEATS = 3
SHORT: dict[str, Any] = {"data": {"prompts": 8}, "method": {"rounds": 1}, "evaluation": {"prompts_per_subset": 2}}
"""The run that warms up: it makes Prefect's database and reads every library once."""


@dataclass
class LaptopRuns:
    """Runs of the laptop profile, each in a home of its own below `folder` that shares the world of `home`."""

    folder: Path
    home: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    """Of the weights that the runs ended with."""

    def run(self, side: str) -> float:
        """Seconds of one run, `with` or `without` Prefect."""
        home = Path(tempfile.mkdtemp(dir=self.folder))
        (home / "world").symlink_to(self.home / "world")
        return seconds(lambda: self.digests.add(self._weights(side, home)))

    def _weights(self, side: str, home: Path) -> str:
        """Run it; the digest of the weights."""
        command = [sys.executable, "-m", "benchmarks.laptop_run", side, json.dumps(self.overrides)]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment(home), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"A laptop run {side} Prefect ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout.splitlines()[-1]

    def _environment(self, home: Path) -> dict[str, str]:
        """An own home, and no server: one that is up would keep its start out of the figure."""
        changes = {"CYCLEALIGN_HOME": str(home), "PREFECT_HOME": str(self.folder / "prefect"), "PREFECT_API_URL": ""}
        return {**os.environ, **changes}


def rows(repeats: int = REPEATS) -> list[Row]:
    """The share of a laptop run's time that is Prefect's."""
    with laptop_runs() as laptop:
        pairs = side_by_side(lambda: laptop.run("with"), lambda: laptop.run("without"), repeats)
    return [share_row(pairs, laptop.digests)]


def share_row(pairs: list[tuple[float, float]], digests: set[str]) -> Row:
    """The row of these pairs of seconds (with, without).

    Raises:
        RuntimeError: the runs ended with different weights.
    """
    if len(digests) != 1:
        raise RuntimeError(f"Found the weights {sorted(digests)}, expected the same with Prefect and without.")
    shares = tuple((with_prefect - without) / with_prefect for with_prefect, without in pairs)
    medians = [median(one) for one in zip(*pairs, strict=True)]
    note = f"{medians[0]:.0f} s with, {medians[1]:.0f} s without, the same weights; world built before"
    return Row("Prefect's share of a laptop run", at_most(0.10), shares, note=note)


@contextmanager
def laptop_runs() -> Iterator[LaptopRuns]:
    """Everything warm: the world in the user's home, built there if need be, and one short run done."""
    home = build_world()
    with tempfile.TemporaryDirectory() as folder:
        LaptopRuns(Path(folder), home, SHORT).run("with")
        yield LaptopRuns(Path(folder), home)


def build_world() -> Path:
    """The home folder, in which the profile's world is from now on."""
    from cyclealign.offline.artifacts import build_world_artifacts  # noqa: PLC0415  imports torch
    from tasks.context import home_folder, load_settings  # noqa: PLC0415
    from tasks.cycle.progress import stage  # noqa: PLC0415

    settings, home = load_settings(PROFILE, {}), home_folder()
    with stage("Dialogue world and tiny models") as report:
        build_world_artifacts(home, settings.world, settings.black_box.judge, report)
    return home
