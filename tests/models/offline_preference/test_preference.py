from pathlib import Path

import numpy as np
import pytest

from cyclealign.offline.preference import PreferenceArtifacts, PreferenceRewardModel
from cyclealign.offline.settings import PreferenceSettings
from cyclealign.records import PreferencePair
from tests.models.offline_preference.conftest import Build, Heard

Pairs = list[PreferencePair]


def test_both_models_recognise_better_replies_of_held_out_pairs(artifacts: PreferenceArtifacts) -> None:
    overall = {row.reward_model: row for row in artifacts.accuracies if row.subset == "all"}
    assert len(overall) == 2
    assert all(row.pairs == 16 and row.accuracy > 0.8 for row in overall.values())
    assert artifacts.correlation > 0.5
    assert artifacts.gate_accuracy > 0.8


def test_accuracies_are_given_per_subset_with_their_numbers(artifacts: PreferenceArtifacts) -> None:
    by_model: dict[str, list[tuple[str, int]]] = {}
    for row in artifacts.accuracies:
        by_model.setdefault(row.reward_model, []).append((row.subset, row.pairs))
    assert list(by_model.values()) == [[("harmless-base", 8), ("helpful-base", 8), ("all", 16)]] * 2


def test_the_same_question_is_answered_from_the_files_of_the_first_time(
    build: Build, train_pairs: Pairs, artifacts: PreferenceArtifacts, heard: Heard
) -> None:
    written = artifacts.evaluation.stat().st_mtime_ns
    again = build(train=train_pairs[::-1], progress=heard)
    assert again == artifacts
    assert again.evaluation.stat().st_mtime_ns == written
    assert heard.messages == ["preference models: nothing to do, they are fitted"]


def test_other_settings_or_pairs_are_fitted_anew(
    build: Build, train_pairs: Pairs, preference_settings: PreferenceSettings, artifacts: PreferenceArtifacts
) -> None:
    shorter = preference_settings.model_copy(update={"response_tokens": 30})
    others = build(settings=shorter), build(train=train_pairs[5:])
    assert len({artifacts.judge, *(other.judge for other in others)}) == 3


def test_progress_goes_to_1_without_a_step_back(build: Build, heard: Heard) -> None:
    build(progress=heard)
    assert heard.shares == sorted(heard.shares)
    assert heard.shares[-1] == pytest.approx(1)


def test_a_reward_does_not_depend_on_the_batch_and_knows_the_prompt_s_subset(
    frozen_folder: Path, held_out_pairs: Pairs, artifacts: PreferenceArtifacts
) -> None:
    reward_model = PreferenceRewardModel(artifacts.evaluation, frozen_folder)
    items = [(pair.prompt, text) for pair in held_out_pairs for text in (pair.chosen, pair.rejected)]
    rewards = reward_model.score(items)
    np.testing.assert_allclose([reward_model.score([item])[0] for item in items], rewards, atol=1e-4)
    gaps = np.subtract(rewards[::2], rewards[1::2])
    assert np.mean(gaps > 0) > 0.8
    assert reward_model.score([]) == []


def test_the_two_models_have_identities_of_their_own(artifacts: PreferenceArtifacts, frozen_folder: Path) -> None:
    named = {row.reward_model for row in artifacts.accuracies}
    assert len(named) == 2
    assert PreferenceRewardModel(artifacts.evaluation, frozen_folder).identity in named
