"""TRL's trainers on the white box's own adapter: what they optimise, and that they continue where they stopped."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cyclealign.profiles import resolve
from cyclealign.records import PreferencePair, Prompt
from cyclealign.settings import Settings
from cyclealign.white_box.loading import Recipe
from cyclealign.white_box.white_box import WhiteBox
from tests.white_box.boxes import PROMPTS

pytest.importorskip("trl")
from cyclealign.white_box.trl_trainers import Curriculum, take_adapter, train

STEPS = 4
PAIRS = [PreferencePair(prompt, "Rinse it.", "It is sunny today.") for prompt in PROMPTS]


class Shortness:
    """A reward model that likes short responses."""

    identity = "shortness"

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[float]:
        assert {prompt for prompt, _ in items} <= {pair.prompt for pair in PAIRS}
        return [-float(len(text)) for _, text in items]


class Notes:
    """Keeps what the trainer reports; its checkpoints are moved away as the ledger does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[dict[str, Any]] = []

    def step_done(self, **figures: Any) -> None:
        self.steps.append(figures)

    def checkpoint_written(self, steps: int, folder: Path) -> None:
        shutil.move(folder, self.folder / str(steps))


@pytest.fixture
def settings(tiny_llama: Path) -> Settings:
    white_box = {"model": str(tiny_llama), "device": "cpu", "max_length": 96, "sampling": {"max_new_tokens": 8}}
    evaluation = {"sampling": {"max_new_tokens": 8}}
    training = {"learning_rate": 1e-2, "wave": 2, "prompts_per_optimizer_step": 2, "checkpoint_every": 2}
    return resolve(
        "tiny",
        {"data": {"source": "folder"}, "white_box": white_box, "training": training, "evaluation": evaluation},
        {},
    )


def load(settings: Settings) -> WhiteBox:
    return WhiteBox.load(Recipe(settings.white_box, settings.training, settings.method, seed=3))


def learn(
    white_box: WhiteBox, settings: Settings, notes: Notes, reward: Shortness | None, start: Path | None = None
) -> None:
    train(Curriculum(white_box, settings, PAIRS, STEPS, reward, notes.folder / "workspace"), notes, start)


def margin(white_box: WhiteBox) -> float:
    """By how much the chosen replies are more probable than the rejected ones, nats over all pairs."""
    replies = [[white_box.encode_reply(text, 8).tokens for text in (pair.chosen, pair.rejected)] for pair in PAIRS]
    scored = white_box.log_probabilities(list(zip([pair.prompt for pair in PAIRS], replies, strict=True)))
    return sum(chosen.total - rejected.total for chosen, rejected in scored)


def test_dpo_starts_at_the_log_of_two_and_widens_the_margin(settings: Settings, tmp_path: Path) -> None:
    white_box, notes = load(settings), Notes(tmp_path)
    before = margin(white_box)
    learn(white_box, settings, notes, None)
    assert notes.steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert [one["optimizer_step"] for one in notes.steps] == list(range(STEPS))
    assert margin(white_box) > before


def test_the_rl_baseline_scores_its_own_responses_and_uses_them_for_several_steps(
    settings: Settings, tmp_path: Path
) -> None:
    white_box, notes = load(settings), Notes(tmp_path)
    before = white_box.weights_sha256()
    learn(white_box, settings, notes, Shortness())
    assert [one["reward"] is not None for one in notes.steps] == [True, False, True, False]
    assert white_box.weights_sha256() != before


@pytest.mark.parametrize("reward", [None, Shortness()], ids=["dpo", "rl"])
def test_training_that_stopped_at_a_checkpoint_ends_with_the_same_weights(
    settings: Settings, tmp_path: Path, reward: Shortness | None
) -> None:
    whole, continued, ended = load(settings), load(settings), load(settings)
    learn(whole, settings, Notes(tmp_path), reward)
    take_adapter(ended, tmp_path / str(STEPS))
    (tmp_path / "again").mkdir()
    learn(continued, settings, Notes(tmp_path / "again"), reward, tmp_path / "2")
    assert continued.weights_sha256() == ended.weights_sha256() == whole.weights_sha256()
