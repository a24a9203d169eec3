"""A dialogue world so small that the whole job runs in seconds; every flow test uses it through the real flow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_HOME, temporary_settings
from prefect.testing.utilities import prefect_test_harness

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
def world_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose tiny world is built once for the session."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def home(world_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home that the flows of a test use."""
    monkeypatch.setenv("CYCLEALIGN_HOME", str(world_home))
    return world_home
