"""A dialogue world so small that the whole job runs in seconds; every flow test uses it through the real flow."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_HOME, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from flows.train import train

SMALL: dict[str, Any] = {
    "data": {"prompts": 12},
    "world": {"train_pairs": 240, "test_pairs": 60, "pretraining_steps": 40},
    "white_box": {"sampling": {"max_new_tokens": 12}},
    "method": {"rounds": 2},
    "training": {"wave": 4, "prompts_per_optimizer_step": 2, "checkpoint_every": 4},
    "black_box": {"judge": {"drafts": 1, "prior_pairs": 10}},
    "evaluation": {"prompts_per_subset": 2, "sampling": {"max_new_tokens": 12}},
}


@pytest.fixture(scope="session", autouse=True)
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Prefect test server for all flow tests, with a folder of its own; heartbeats, a second a run, are off."""
    settings = {PREFECT_HOME: tmp_path_factory.mktemp("prefect"), PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(settings), prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def world_home(prefect: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the tiny world, which a training in an empty home built once for all workers of the session."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.getbasetemp()
    shared = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "built-once"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock, pytest.MonkeyPatch.context() as environment:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment.setenv("CYCLEALIGN_HOME", str(shared / "home"))
        train(profile="laptop", overrides=SMALL, run="first")
    shutil.copytree(shared / "home" / "world", home / "world")
    return home


@pytest.fixture
def home(world_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home that the flows of a test use."""
    monkeypatch.setenv("CYCLEALIGN_HOME", str(world_home))
    return world_home


@pytest.fixture(scope="session")
def trained(world_home: Path) -> dict[str, Any]:
    """What the training of run `whole` returned, which has the small settings: the one run that most tests look at."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CYCLEALIGN_HOME", str(world_home))
        return dict(train(profile="laptop", overrides=SMALL, run="whole"))


@pytest.fixture
def whole(home: Path, trained: dict[str, Any]) -> Path:
    """The home that the flows of a test use, with the finished run `whole` in it."""
    return home
