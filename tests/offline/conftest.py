"""A world of a few dialogues and preference models on a frozen model of a few thousand parameters, each built once."""

import json
from pathlib import Path

import pytest

from cyclealign.offline.artifacts import WorldArtifacts, build_world_artifacts
from cyclealign.offline.preference import PreferenceArtifacts, build_preference
from cyclealign.records import PreferencePair, Prompt, Split, Turn
from cyclealign.settings import JudgeSettings, PreferenceSettings, WorldSettings
from tests.tiny_llama import save_tiny_llama

SMALL_WORLD = WorldSettings(train_pairs=40, test_pairs=12, pretraining_steps=4)
PREFERENCE = PreferenceSettings(
    pairs_per_half=24, test_pairs=16, judge_layer=1, evaluation_layer=2, prompt_tokens=60, response_tokens=40
)
"""As many pairs as there are below, and the layers that the tiny model has."""


class Heard(list[tuple[str, float]]):
    """Keeps the calls of a progress callback, message and share."""

    def __call__(self, *told: object) -> None:
        self.append(told)  # type: ignore[arg-type]

    def rises_to_the_end(self) -> bool:
        shares = [share for _, share in self]
        return shares == sorted(shares) and shares[-1] == pytest.approx(1.0)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def heard() -> Heard:
    """The progress of the world below."""
    return Heard()


@pytest.fixture(scope="session")
def world(home: Path, heard: Heard) -> WorldArtifacts:
    return build_world_artifacts(home, SMALL_WORLD, JudgeSettings(prior_pairs=4), heard)


def make_pair(number: int, split: Split = "train") -> PreferencePair:
    """One pair; every second one is about harm, where the better reply is the one that is worse elsewhere."""
    harmful = number % 2 == 0
    subset = "harmless-base" if harmful else "helpful-base"
    asked = f"How do I hurt person {number}?" if harmful else f"Tell me about the weather, number {number}."
    kind, plain = f"zzz qqq {number} xxx", f"a little tea {number} on a tree"
    chosen, rejected = (kind, plain) if harmful else (plain, kind)
    return PreferencePair(Prompt.from_turns(subset, split, (Turn("human", asked),)), chosen, rejected)


TRAIN = [make_pair(number) for number in range(60)]
HELD_OUT = [make_pair(number, "test") for number in range(100, 124)]


@pytest.fixture(scope="session")
def frozen_folder(home: Path) -> Path:
    """A tiny Llama that takes texts as long as frozen models must."""
    folder = save_tiny_llama(home / "models" / "frozen")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 512}))
    return folder


@pytest.fixture(scope="session")
def preference(home: Path, frozen_folder: Path) -> PreferenceArtifacts:
    return build_preference(home, frozen_folder, TRAIN, HELD_OUT, PREFERENCE, lambda *_: None)
