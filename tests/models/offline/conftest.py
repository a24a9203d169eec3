"""A world of a few dialogues with models of a few training steps, built once for all tests of this folder."""

from pathlib import Path

import pytest

from cyclealign.offline.artifacts import WorldArtifacts, build_world_artifacts
from cyclealign.offline.settings import JudgeSettings, WorldSettings


@pytest.fixture(scope="session")
def small() -> WorldSettings:
    return WorldSettings(train_pairs=40, test_pairs=12, pretraining_steps=4)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def told() -> list[tuple[str, float]]:
    """What the build reported."""
    return []


@pytest.fixture(scope="session")
def artifacts(home: Path, small: WorldSettings, told: list[tuple[str, float]]) -> WorldArtifacts:
    return build_world_artifacts(
        home, small, JudgeSettings(prior_pairs=4), lambda message, done: told.append((message, done))
    )
