"""A run of the laptop profile in a home of its own, by the command that a user gives."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.laptop_run import PROFILE, RUN
from benchmarks.prefect_share import ROOT


def train(home: Path, world: Path, settings: Mapping[str, object]) -> None:
    """Train the run `benchmark` in `home`, which takes the dialogue world from the home `world`.

    Raises:
        RuntimeError: it did not finish.
    """
    (home / "world").symlink_to((world / "world").absolute())
    command = [sys.executable, "-m", "flows.cli", "train", "--profile", PROFILE, "--run", RUN]
    command += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    environment = {"CYCLEALIGN_HOME": str(home), "PREFECT_API_URL": "", "OPENAI_API_KEY": RUN}
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"A run of {dict(settings)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
