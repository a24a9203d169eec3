"""What a run is computed with: code, packages, processor. A run that continues computes as it began."""

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from storage.runs import Run
from tasks.cycle.progress import say

PACKAGES = ("cyclealign", "torch", "transformers", "peft", "accelerate", "deepspeed", "openai", "duckdb", "prefect")
OPTIONAL = ("bitsandbytes",)
"""Recorded where they are installed."""
DECIDING = (
    "code",
    "ranks",
    "instructions",
    "gpu",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "deepspeed",
    *OPTIONAL,
)
"""What can move the last bits of the weights and is not set back by itself."""


def git_commit() -> str | None:
    """The commit that the code is at, with `+` when files differ from it; None outside a checkout."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+", "--match="]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    installed = (*PACKAGES, *(name for name in OPTIONAL if find_spec(name) is not None))
    return {name: metadata.version(name) for name in installed}


def machine() -> dict[str, Any]:
    """What the run computes on."""
    import torch  # noqa: PLC0415  not needed to parse settings

    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "gpus": torch.cuda.device_count(),
    }


@contextmanager
def computing_as_before(run: Run, ranks: int) -> Iterator[None]:
    """Compute the block with the number of threads that the run began with; say what cannot be had again.

    Sums are split among threads and vector registers, so that another number of either gives other last bits.
    """
    import torch  # noqa: PLC0415  as above

    here = torch.get_num_threads()
    threads = run.machine.get("threads") or here
    if threads != here:
        say(f"  Threads: {threads}, with which run {run.run_name} began (here: {here})")
    before = {"code": run.git_commit, "ranks": 1, **run.machine, **run.package_versions}
    now = {"code": git_commit(), "ranks": ranks, **machine(), **package_versions()}
    changed = [name for name in DECIDING if name in before and before[name] != now.get(name)]
    if changed:
        moved = ", ".join(f"{name} ({before[name]} → {now.get(name)})" for name in changed)
        say(f"  Began with other {moved}: the weights may differ")
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(here)
