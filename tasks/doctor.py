"""Is everything that a profile needs in order, and what to do where it is not. Spends nothing and changes nothing.

Here: environment, data, home, ledger. Models and endpoints: `tasks.doctor_models`, `tasks.doctor_endpoints`.
"""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from cyclealign.errors import CycleAlignError
from cyclealign.settings import Settings
from storage import runs
from storage.file_systems import require_local
from tasks.context import home_folder
from tasks.doctor_endpoints import look_at_endpoints
from tasks.doctor_models import look_at_device, look_at_models, look_at_ranks
from tasks.findings import Finding, reachable
from tasks.machine import PACKAGES


def examine(settings: Settings) -> list[Finding]:
    """What the profile needs, looked at in order: environment, device, data, model, endpoint, home, ledger."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _environment,
        look_at_device,
        look_at_ranks,
        _data,
        look_at_models,
        look_at_endpoints,
        _home,
        _ledger,
    )
    return [finding for check in checks for finding in check(settings)]


def _environment(_: Settings) -> Iterator[Finding]:
    old = sys.version_info < (3, 11)
    yield Finding("python", platform.python_version(), old, "Python 3.11 or newer is needed." if old else "")
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES if name not in missing)
    yield Finding("packages", versions)
    if missing:
        yield Finding("missing packages", ", ".join(missing), True, "Run `make install`.")


def _data(settings: Settings) -> Iterator[Finding]:
    data = settings.data
    if data.source == "world":
        yield Finding("data", "generated dialogue world")
    elif data.source == "hub":
        yield reachable(
            "data hub",
            "huggingface.co",
            443,
            "Give a folder in the hub's layout: --set data.source=folder --set data.path=FOLDER.",
        )
    else:
        wanted = [
            Path(data.path) / subset / f"{split}.jsonl.gz" for subset in data.subsets for split in ("train", "test")
        ]
        missing = [str(path) for path in wanted if not path.is_file()]
        yield Finding(
            "data",
            f"{len(wanted) - len(missing)} of {len(wanted)} files in {data.path}",
            bool(missing),
            f"Missing: {', '.join(missing[:3])}. Give the folder with --set data.path=FOLDER." if missing else "",
        )


def _home(_: Settings) -> Iterator[Finding]:
    home = home_folder()
    place = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(place).free / 2**30
    yield Finding("home", f"{home}, {free:.1f} GiB free", free < 2, "At least 2 GiB are needed." if free < 2 else "")
    if not os.access(place, os.W_OK):
        yield Finding("home", f"{place} cannot be written to", True, "Set CYCLEALIGN_HOME to a folder of yours.")
    try:
        require_local(home / "ledger.duckdb")
    except CycleAlignError as error:
        yield Finding("home", "on a network file system", True, str(error))


def _ledger(_: Settings) -> Iterator[Finding]:
    if not (home_folder() / "ledger.duckdb").exists():
        yield Finding("ledger", "none yet; the first run makes it")
        return
    try:
        found = runs.status_anywhere(home_folder())
    except CycleAlignError as error:
        yield Finding("ledger", "cannot be read", True, str(error))
        return
    yield Finding("ledger", f"{len(found)} runs: " + ", ".join(f"{one.name} {one.state}" for one in found[-5:]))
