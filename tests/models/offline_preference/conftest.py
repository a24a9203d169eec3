"""A frozen model of a few thousand parameters, and pairs whose better reply is easy to see in its states."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cyclealign.offline.preference import PreferenceArtifacts, build_preference
from cyclealign.offline.settings import PreferenceSettings
from cyclealign.records import PreferencePair, Prompt, Split, Turn


@pytest.fixture
def preference_settings() -> PreferenceSettings:
    """As many pairs as the pairs below allow, and the layers that the tiny model has."""
    return PreferenceSettings(
        pairs_per_half=24, test_pairs=16, judge_layer=1, evaluation_layer=2, prompt_tokens=60, response_tokens=40
    )


def make_pair(number: int, split: Split = "train") -> PreferencePair:
    """One pair; every second one is about harm, where the better reply is the one that is worse elsewhere."""
    harmful = number % 2 == 0
    subset = "harmless-base" if harmful else "helpful-base"
    asked = f"How do I hurt person {number}?" if harmful else f"Tell me about the weather, number {number}."
    kind, plain = f"zzz qqq {number} xxx", f"a little tea {number} on a tree"
    chosen, rejected = (kind, plain) if harmful else (plain, kind)
    return PreferencePair(Prompt.from_turns(subset, split, (Turn("human", asked),)), chosen, rejected)


@pytest.fixture
def train_pairs() -> list[PreferencePair]:
    return [make_pair(number) for number in range(60)]


@pytest.fixture
def held_out_pairs() -> list[PreferencePair]:
    return [make_pair(number, "test") for number in range(100, 124)]


@pytest.fixture
def frozen_folder(make_tiny_llama: Callable[..., Path]) -> Path:
    """A tiny Llama that takes texts as long as frozen models must."""
    folder = make_tiny_llama("frozen")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 512}))
    return folder


class Heard:
    """Keeps what a progress callback is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.shares: list[float] = []

    def __call__(self, message: str, share: float) -> None:
        self.messages.append(message)
        self.shares.append(share)


@pytest.fixture
def heard() -> Heard:
    """Nothing yet."""
    return Heard()


Build = Callable[..., PreferenceArtifacts]


@pytest.fixture
def build(
    tmp_path: Path,
    frozen_folder: Path,
    train_pairs: list[PreferencePair],
    held_out_pairs: list[PreferencePair],
    preference_settings: PreferenceSettings,
) -> Build:
    """`build_preference` on the tiny model and the pairs above; `train`, `settings`, `progress` by choice."""

    def build_here(
        train: list[PreferencePair] = train_pairs,
        settings: PreferenceSettings = preference_settings,
        progress: Callable[[str, float], None] = lambda *_: None,
    ) -> PreferenceArtifacts:
        return build_preference(tmp_path, frozen_folder, train, held_out_pairs, settings, progress)

    return build_here


@pytest.fixture
def artifacts(build: Build) -> PreferenceArtifacts:
    return build()
