"""Runs of the laptop profile by the command that a user gives, each in a home of its own with one shared built world.

A server that is up would keep its start out of the figures and outlive kills, so the runs do not see it.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measuring import ROOT

PROFILE = "laptop"
RUN = "benchmark"
Settings = Mapping[str, object]


def build_world() -> Path:
    """The home folder, in which the profile's world is from now on."""
    from cyclealign.offline.artifacts import build_world_artifacts  # noqa: PLC0415  imports torch
    from tasks.context import home_folder, load_settings  # noqa: PLC0415
    from tasks.cycle.progress import stage  # noqa: PLC0415

    settings, home = load_settings(PROFILE, {}), home_folder()
    with stage("Dialogue world and tiny models") as report:
        build_world_artifacts(home, settings.world, settings.black_box.judge, report)
    return home


def new_home(folder: Path, name: str, built: Path) -> Path:
    """A home without runs that shares the world of another."""
    home = folder / name
    home.mkdir()
    (home / "world").symlink_to((built / "world").absolute())
    return home


def command(settings: Settings, run: str = RUN) -> list[str]:
    """The command line that trains."""
    assignments = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "cli.main", "train", "--profile", PROFILE, "--run", run, *assignments]


def environment(home: Path, **changes: str) -> dict[str, str]:
    """For a run in this home; homes side by side in a folder share Prefect's records."""
    own = {"CYCLEALIGN_HOME": str(home), "PREFECT_HOME": str(home.parent / "prefect"), "PREFECT_API_URL": ""}
    return {**os.environ, **own, "OPENAI_API_KEY": RUN, **changes}


def train(home: Path, settings: Settings) -> None:
    """Start the run or continue it, to its end."""
    finished(command(settings), environment(home))


def finished(words: list[str], variables: Mapping[str, str] | None = None) -> str:
    """What a program printed."""
    done = subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[1:])} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
