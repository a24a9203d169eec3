"""What all tests share: a model server, a Prefect server, a home that was trained in once, silence after the last."""

import atexit
import fcntl
import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from storage import runs
from storage.ledger import Ledger
from tests.black_box.model_server import ModelServer
from tests.flows.conftest import SMALL
from tests.serving import serving

settings.register_profile("without deadlines", deadline=None, max_examples=50)  # no test asserts a time
settings.load_profile("without deadlines")

# as every command of ours sets it (`cli/server.py`): on a busy machine a server takes longer than Prefect waits
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # likewise (`cli/main.py`): tests run beside each other

# DuckDB's binding lists its types as leaked when the interpreter ends; the tests' own last line comes before
atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))

DRAWN: dict[str, Any] = {}
"""Plots by exhibit."""


def pytest_collection_finish() -> None:
    """What the tests import stays: no collection of garbage has to look at it again."""
    gc.freeze()


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServer]:
    """One server for all tests."""
    with serving(ModelServer()) as server:
        yield server


@pytest.fixture
def server(model_server: ModelServer) -> ModelServer:
    """The server as if it had just started."""
    new = vars(ModelServer(url=model_server.url))
    vars(model_server).update({name: value for name, value in new.items() if name != "_others"})
    return model_server


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Prefect test server for all tests, with a folder of its own; heartbeats, a second a run, are off."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_HOME, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    settings = {PREFECT_HOME: tmp_path_factory.mktemp("prefect"), PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(settings), prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def trained_once(prefect: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the finished run `whole` in its tiny world, for copies alone: one worker of the session trains it."""
    folder = tmp_path_factory.getbasetemp()
    shared = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "trained-once"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "moved").exists():
            train_small(shared / "home", "whole")
            Ledger(shared / "home").close()
            (shared / "home").rename(shared / "moved")  # a copy finds its own adapter, not that of the first home
    return shared / "moved"


@pytest.fixture(scope="session")
def world_home(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it for the flows of this worker."""
    return shutil.copytree(trained_once, tmp_path_factory.mktemp("home"), dirs_exist_ok=True)


def train_small(home: Path, run: str) -> dict[str, Any]:
    """What the training of a run with the small settings returns."""
    from flows.train import train

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CYCLEALIGN_HOME", str(home))
        return dict(train(profile="laptop", overrides=SMALL, run=run))


@pytest.fixture
def home(world_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home that the flows of a test use; each exhibit is drawn once, for plots take half of the time of a flow."""
    from cyclealign.report import plots

    def draw_once(name: str, *rest: Any) -> Any:
        if name not in DRAWN:
            DRAWN[name] = render(name, *rest)
        return DRAWN[name]

    render = plots._render
    monkeypatch.setattr(plots, "_render", draw_once)
    monkeypatch.setenv("CYCLEALIGN_HOME", str(world_home))
    return world_home


@pytest.fixture(scope="session")
def trained(world_home: Path) -> dict[str, Any]:
    """What the command that trained run `whole` returned."""
    return runs.status(Ledger(world_home), "whole")[0].as_dict()


@pytest.fixture
def whole(home: Path, trained: dict[str, Any]) -> Path:
    """The home that the flows of a test use, with the finished run `whole` in it."""
    return home
