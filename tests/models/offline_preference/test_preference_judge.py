import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclealign.errors import ModelError
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.offline.frozen_features import load_frozen
from cyclealign.offline.preference import PreferenceArtifacts
from cyclealign.offline.preference_heads import FittedArrays
from cyclealign.offline.preference_judge import (
    JudgeSight,
    PreferenceFeatures,
    PromptedWriter,
    load_preference_judge,
    text_figures,
    turns_of,
)
from cyclealign.offline.settings import JudgeSettings
from cyclealign.records import PreferencePair, Speaker, Turn, render_dialogue

SPOKEN = st.text("ab:? \n", min_size=1, max_size=12).map(str.strip).filter(bool)
SPEAKERS: tuple[Speaker, Speaker] = ("human", "assistant")


@pytest.fixture
def features(artifacts: PreferenceArtifacts, frozen_folder: Path) -> PreferenceFeatures:
    frozen = load_frozen(frozen_folder)
    fitted = FittedArrays.load(artifacts.judge, frozen.identity)
    return PreferenceFeatures(frozen, fitted.reading, JudgeSight.of(fitted.arrays))


@given(st.lists(SPOKEN, min_size=1, max_size=5))
def test_a_dialogue_is_read_back_from_the_text_of_the_ranking_prompt(texts: list[str]) -> None:
    turns = tuple(Turn(SPEAKERS[index % 2], text) for index, text in enumerate(texts))
    assert turns_of(render_dialogue(turns)) == turns


def test_a_text_that_is_no_dialogue_is_one_human_turn() -> None:
    assert turns_of("Please rank.\n\nHuman: these") == (Turn("human", "Please rank.\n\nHuman: these"),)


def test_figures_of_a_text_are_those_of_its_words() -> None:
    figures = text_figures((Turn("human", "How do I boil rice?"),), "I can't boil. Why rice? Rice!")
    np.testing.assert_allclose(figures, [np.log(7), 3 / 7, 1, 5 / 7, 1, 3 / 7])


def test_features_of_a_response_do_not_depend_on_the_others_in_any_digit(features: PreferenceFeatures) -> None:
    instruction, texts = ("Human: Tell me about the weather.\n\nAssistant:", ["Sunny.", "zzz qqq", "I won't."])
    together = features(instruction, texts)
    assert together.shape == (3, features.size)
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_array_equal(features(instruction, [text])[0], row)


def test_the_first_feature_finds_out_by_itself_which_kind_of_prompt_it_is(
    features: PreferenceFeatures, held_out_pairs: list[PreferencePair]
) -> None:
    looks = [features(pair.prompt.instruction, [pair.chosen, pair.rejected])[:, 0] for pair in held_out_pairs]
    assert np.mean([chosen > rejected for chosen, rejected in looks]) > 0.8


def test_before_any_demonstration_the_judge_trusts_its_head_alone(features: PreferenceFeatures) -> None:
    prior = features.prior()
    assert prior.mean.tolist() == [1.0] + [0.0] * (features.size - 1)
    assert np.diag(prior.precision) == pytest.approx([4.0] + [100.0] * (features.size - 1))


def test_drafts_depend_on_the_instruction_alone_and_are_never_empty(frozen_folder: Path) -> None:
    instruction = "Human: Tell me about the weather.\n\nAssistant:"
    first = PromptedWriter(load_frozen(frozen_folder), drafts=4, max_tokens=6)
    drafts = first.drafts(instruction)
    first.drafts("Human: Something else.\n\nAssistant:")
    assert first.drafts(instruction) == drafts
    assert 1 <= len(drafts) <= 4
    assert all(drafts)


def test_the_judge_answers_a_rendered_prompt_with_a_ranking_and_one_of_its_drafts(
    artifacts: PreferenceArtifacts, frozen_folder: Path, held_out_pairs: list[PreferencePair]
) -> None:
    judge = load_preference_judge(artifacts.judge, frozen_folder, JudgeSettings(noise=0, drafts=3), 6)
    right = 0
    for pair in held_out_pairs[:8]:
        text = render_ranking_prompt(pair.prompt.instruction, [pair.rejected, pair.chosen], demonstrations=[])
        body = {"model": "any", "messages": [{"role": "user", "content": text}]}
        answer = json.loads(judge.answer(body)["choices"][0]["message"]["content"])
        right += answer["desired rank"] == [1, 0]
        writer = PromptedWriter(load_frozen(frozen_folder), drafts=3, max_tokens=6)
        assert answer["response"] in writer.drafts(pair.prompt.instruction)
    assert right >= 6


def test_a_judge_of_another_model_is_refused(artifacts: PreferenceArtifacts, frozen_folder: Path) -> None:
    other = shutil.copytree(frozen_folder, frozen_folder.with_name("other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.1}))
    with pytest.raises(ModelError, match="fitted on the states of model"):
        load_preference_judge(artifacts.judge, other, JudgeSettings(), 6)
