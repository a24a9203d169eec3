"""Is everything that a profile needs in order, and what to do where it is not. Spends nothing and changes nothing."""

import importlib.util
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from cyclealign.errors import CycleAlignError
from cyclealign.settings import Settings
from storage import runs
from storage.file_systems import require_local
from tasks.context import home_folder
from tasks.machine import PACKAGES


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was found, and what to do when it is bad."""

    what: str
    found: str
    bad: bool = False
    todo: str = ""

    def line(self) -> str:
        """`ok   python: 3.11.7`, or `BAD  key: … -> what to do`."""
        mark = "BAD " if self.bad else "ok  "
        return f"{mark} {self.what}: {self.found}" + (f"\n     -> {self.todo}" if self.todo else "")


def examine(settings: Settings) -> list[Finding]:
    """What the profile needs, looked at in order: environment, device, data, model, endpoint, home, ledger."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _environment,
        _device,
        _data,
        _white_box,
        _endpoint,
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


def _device(settings: Settings) -> Iterator[Finding]:
    import torch  # noqa: PLC0415  slow to import

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        yield Finding("GPU", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
        return
    small = settings.white_box.model in ("world", "smollm2-135m-instruct")
    yield Finding(
        "GPU",
        f"none; {torch.get_num_threads()} CPU threads",
        not small,
        "" if small else "This profile's model is far too slow on a CPU; try --profile laptop.",
    )
    if settings.white_box.dtype in ("bfloat16", "float16"):
        yield Finding(
            "dtype",
            settings.white_box.dtype,
            True,
            "Half precision is hundreds of times slower on most CPUs; set white_box.dtype=float32.",
        )


def _data(settings: Settings) -> Iterator[Finding]:
    data = settings.data
    if data.source == "world":
        yield Finding("data", "generated dialogue world")
    elif data.source == "hub":
        yield _reachable(
            "data hub",
            "huggingface.co",
            443,
            "Give a folder in the hub's layout: --set data.source=folder --set data.path=FOLDER.",
        )
    else:
        wanted = [
            Path(data.path) / subset / f"{split}.jsonl.gz"
            for subset in data.subsets
            for split in ("train", "test")
        ]
        missing = [str(path) for path in wanted if not path.is_file()]
        yield Finding(
            "data",
            f"{len(wanted) - len(missing)} of {len(wanted)} files in {data.path}",
            bool(missing),
            f"Missing: {', '.join(missing[:3])}. Give the folder with --set data.path=FOLDER."
            if missing
            else "",
        )


def _white_box(settings: Settings) -> Iterator[Finding]:
    from tasks.models import local_model  # noqa: PLC0415  slow to import

    name = settings.white_box.model
    if settings.white_box.trust_remote_code:
        todo = f"Python code from the repository of {name} will run: read it first."
        yield Finding("trust_remote_code", "on", False, todo)
    if name == "world":
        yield Finding("white box", "tiny model, trained on the spot")
    elif local_model(name, home_folder()) is not None:
        yield Finding("white box", str(local_model(name, home_folder())))
    elif name == "smollm2-135m-instruct":
        yield Finding("white box", f"{name} is not installed", True, "Run `make smollm2`.")
    else:
        yield _reachable(
            f"white box {name}", "huggingface.co", 443, "Give a local folder: --set white_box.model=FOLDER."
        )


def _endpoint(settings: Settings) -> Iterator[Finding]:
    black_box = settings.black_box
    if black_box.endpoint != "api":
        yield Finding("black box", f"offline judge ({black_box.endpoint}), costs nothing")
        return
    address = urlsplit(black_box.base_url)
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    yield _reachable("endpoint", host, port, "Check black_box.base_url and the network.")
    needed = host not in ("127.0.0.1", "localhost", "::1")
    if needed:
        missing = not os.environ.get(black_box.api_key_env)
        yield Finding(
            "key",
            f"{black_box.api_key_env} is {'not set' if missing else 'set'}",
            missing,
            f"export {black_box.api_key_env}=…" if missing else "",
        )
    yield from _price(settings)


def _price(settings: Settings) -> Iterator[Finding]:
    from cyclealign.models.prices import Prices  # noqa: PLC0415

    try:
        Prices(settings.black_box).require_price()
    except CycleAlignError as error:
        yield Finding("price", settings.black_box.model, True, str(error))
        return
    cap = settings.black_box.budget_usd
    yield Finding(
        "cap",
        "none" if cap is None else f"${cap:.2f}",
        False,
        "Set a cap: --set black_box.budget_usd=10." if cap is None else "",
    )


def _reachable(what: str, host: str, port: int, todo: str) -> Finding:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return Finding(what, f"{host}:{port} cannot be reached ({error})", True, todo)
    return Finding(what, f"{host}:{port} answers")


def _home(_: Settings) -> Iterator[Finding]:
    home = home_folder()
    place = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(place).free / 2**30
    yield Finding(
        "home", f"{home}, {free:.1f} GiB free", free < 2, "At least 2 GiB are needed." if free < 2 else ""
    )
    if not os.access(place, os.W_OK):
        yield Finding(
            "home", f"{place} cannot be written to", True, "Set CYCLEALIGN_HOME to a folder of yours."
        )
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
    yield Finding(
        "ledger", f"{len(found)} runs: " + ", ".join(f"{one.name} {one.state}" for one in found[-5:])
    )
