"""A run of the laptop profile in a home of its own, by the command that a user gives; or cut short on the way."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.laptop_run import PROFILE, RUN
from benchmarks.prefect_share import ROOT


def train(home: Path, world: Path, settings: Mapping[str, object]) -> None:
    """Train the run `benchmark` in `home`, which takes the dialogue world from the home `world`.

    Raises:
        RuntimeError: it did not finish.
    """
    share_world(home, world)
    go_on(home, settings)


def cut_short(home: Path, world: Path, settings: Mapping[str, object], turns: int) -> None:
    """The same, killed as soon as so many turns of waves are trained and recorded.

    Raises:
        RuntimeError: it ended otherwise.
    """
    share_world(home, world)
    program = ["benchmarks.cut_short", str(turns)]
    done = _run(home, program, settings)
    if done.returncode != -signal.SIGKILL:
        raise RuntimeError(f"A run that was to be killed ended with {done.returncode}:\n{done.stderr[-2000:]}")


def go_on(home: Path, settings: Mapping[str, object]) -> None:
    """Give the command in a home that has what the run needs.

    Raises:
        RuntimeError: it did not finish.
    """
    done = _run(home, ["cli.main"], settings)
    if done.returncode:
        raise RuntimeError(f"A run of {dict(settings)} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def share_world(home: Path, world: Path) -> None:
    """Have the dialogue world of one home in another."""
    (home / "world").symlink_to((world / "world").absolute())


def _run(home: Path, program: Sequence[str], settings: Mapping[str, object]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", *program, "train", "--profile", PROFILE, "--run", RUN]
    command += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    environment = {"CYCLEALIGN_HOME": str(home), "PREFECT_API_URL": "", "OPENAI_API_KEY": RUN}
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
