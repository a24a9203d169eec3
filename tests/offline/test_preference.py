"""Preference models on real pairs: which pairs fit them, that they tell good from bad, and the judge on them."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cyclealign.errors import DataError
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.offline.preference import (
    JudgeSight,
    PreferenceArtifacts,
    PreferenceFeatures,
    PreferenceRewardModel,
    build_preference,
    choose_pairs,
    drafts,
    load_preference_judge,
    text_figures,
)
from cyclealign.offline.preference_heads import FittedArrays, load_frozen
from cyclealign.records import PreferencePair, Turn
from cyclealign.settings import JudgeSettings
from tests.offline.conftest import HELD_OUT, PREFERENCE, TRAIN, Heard

INSTRUCTION = "Human: Tell me about the weather.\n\nAssistant:"


def test_the_chosen_prompts_are_in_one_part_each_whatever_the_order_of_the_pairs() -> None:
    again = [replace(pair, chosen=f"{pair.chosen} indeed") for pair in TRAIN]
    chosen = choose_pairs(TRAIN + again, HELD_OUT + TRAIN, PREFERENCE)
    prompts = Counter(pair.prompt.prompt_id for part in (chosen.judge, chosen.evaluation, chosen.test) for pair in part)
    assert max(prompts.values()) == 1
    assert (len(chosen.judge), len(chosen.evaluation)) == (24, 24)
    assert Counter(pair.prompt.subset for pair in chosen.test) == {"harmless-base": 8, "helpful-base": 8}
    assert choose_pairs([*again, *TRAIN][::-1], [*HELD_OUT, *TRAIN][::-1], PREFERENCE) == chosen


@pytest.mark.parametrize(
    ("train", "test", "per_half", "complaint"),
    [
        pytest.param(TRAIN[:30], HELD_OUT, 24, r"Found 30 training pairs.*expected 48.*pairs_per_half", id="too few"),
        pytest.param(TRAIN, [], 24, "0 test pairs", id="no test pairs"),
        pytest.param(TRAIN[::2] * 2, HELD_OUT, 24, "Found 30 training pairs", id="each prompt twice"),
        pytest.param(TRAIN[::2], HELD_OUT, 10, "both kinds", id="one kind"),
    ],
)
def test_pairs_that_fit_no_two_models_are_an_error_with_the_number_needed(
    train: list[PreferencePair], test: list[PreferencePair], per_half: int, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        choose_pairs(train, test, PREFERENCE.model_copy(update={"pairs_per_half": per_half}))


def test_both_models_recognise_better_replies_of_held_out_pairs(preference: PreferenceArtifacts) -> None:
    rows = [(row.reward_model.rpartition("-")[0], row.subset, row.pairs) for row in preference.accuracies]
    parts = [("harmless-base", 8), ("helpful-base", 8), ("all", 16)]
    assert rows == [(f"preference-{name}", *part) for name in ("judge", "evaluation") for part in parts]
    assert all(row.accuracy > 0.8 for row in preference.accuracies if row.subset == "all")
    assert preference.correlation.correlation > 0.5
    assert json.loads((preference.judge.parent / "report.json").read_text())["gate_accuracy"] > 0.8


def test_the_same_question_is_answered_from_the_files_of_the_first_time(
    home: Path, frozen_folder: Path, preference: PreferenceArtifacts
) -> None:
    heard, written = Heard(), preference.evaluation.stat().st_mtime_ns
    again = build_preference(home, frozen_folder, TRAIN[::-1], HELD_OUT, PREFERENCE, heard)
    assert again == preference
    assert again.evaluation.stat().st_mtime_ns == written
    assert heard == [("preference models: nothing to do, they are fitted", 1.0)]


def test_other_settings_or_pairs_are_fitted_anew_with_rising_progress(
    home: Path, frozen_folder: Path, preference: PreferenceArtifacts
) -> None:
    heard, shorter = Heard(), PREFERENCE.model_copy(update={"response_tokens": 30})
    one = build_preference(home, frozen_folder, TRAIN, HELD_OUT, shorter, heard)
    two = build_preference(home, frozen_folder, TRAIN[5:], HELD_OUT, PREFERENCE, Heard())
    assert len({preference.judge, one.judge, two.judge}) == 3
    assert heard.rises_to_the_end()


def test_a_reward_does_not_depend_on_the_batch_and_knows_the_prompt_s_subset(
    frozen_folder: Path, preference: PreferenceArtifacts
) -> None:
    reward_model = PreferenceRewardModel(preference.evaluation, frozen_folder)
    items = [(pair.prompt, text) for pair in HELD_OUT for text in (pair.chosen, pair.rejected)]
    rewards = reward_model.score(items)
    np.testing.assert_allclose([reward_model.score([item])[0] for item in items], rewards, atol=1e-4)
    assert np.mean(np.subtract(rewards[::2], rewards[1::2]) > 0) > 0.8
    assert reward_model.score([]) == []
    identities = {reward_model.identity, PreferenceRewardModel(preference.judge, frozen_folder).identity}
    assert identities == {row.reward_model for row in preference.accuracies}


def test_figures_of_a_text_are_those_of_its_words() -> None:
    figures = text_figures((Turn("human", "How do I boil rice?"),), "I can't boil. Why rice? Rice!")
    np.testing.assert_allclose(figures, [np.log(7), 3 / 7, 1, 5 / 7, 1, 3 / 7])


def test_the_first_feature_finds_out_the_kind_of_prompt_and_the_judge_trusts_it_alone_before_demonstrations(
    preference: PreferenceArtifacts, frozen_folder: Path
) -> None:
    fitted = FittedArrays.load(preference.judge, load_frozen(frozen_folder).identity)
    features = PreferenceFeatures(load_frozen(frozen_folder), fitted.reading, JudgeSight(**fitted.arrays))
    looks = [[features(pair.prompt.instruction, text)[0] for text in (pair.chosen, pair.rejected)] for pair in HELD_OUT]
    assert np.mean([chosen > rejected for chosen, rejected in looks]) > 0.8
    prior, others = features.prior(), features(INSTRUCTION, "Sunny.").size - 1
    assert prior.mean.tolist() == [1.0] + [0.0] * others
    assert np.diag(prior.precision) == pytest.approx([4.0] + [100.0] * others)


def test_the_judge_answers_a_rendered_prompt_with_a_ranking_and_one_of_its_drafts(
    preference: PreferenceArtifacts, frozen_folder: Path
) -> None:
    judge = load_preference_judge(preference.judge, frozen_folder, JudgeSettings(noise=0, drafts=3), 6)
    assert 1 <= len(drafts(load_frozen(frozen_folder), INSTRUCTION, 3, 6)) <= 3
    right = 0
    for pair in HELD_OUT[:8]:
        text = render_ranking_prompt(pair.prompt.instruction, [pair.rejected, pair.chosen], demonstrations=[])
        body = {"model": "any", "messages": [{"role": "user", "content": text}]}
        answer = json.loads(judge.answer(body)["choices"][0]["message"]["content"])
        right += answer["desired rank"] == [1, 0]
        assert answer["response"]
        assert answer["response"] in drafts(load_frozen(frozen_folder), pair.prompt.instruction, 3, 6)
    assert right >= 6
