"""Sequence classifiers as reward models, on tiny local ones."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from cyclealign.errors import ModelError
from cyclealign.offline.tiny_models import train_tokenizer
from cyclealign.records import Prompt, Turn
from cyclealign.reward_models.reward_model import ClassifierRewardModel

PROMPT = Prompt.from_turns("helpful-base", "test", [Turn("human", "How do I brew tea?")])
ITEMS = [(PROMPT, "Boil water first."), (PROMPT, "No."), (PROMPT, "Ask somebody who knows more about tea.")]
TEMPLATE = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"


def save(folder: Path, labels: int = 1, template: str | None = None, pad_id: int | None = 0, seed: int = 0) -> str:
    tokenizer = train_tokenizer(["How do I brew tea? Boil water first."])
    tokenizer.chat_template = template
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_labels=labels,
        pad_token_id=pad_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("template", [None, TEMPLATE], ids=["plain", "chat template"])
@pytest.mark.parametrize("pad_id", [0, None], ids=["padding", "no padding"])
def test_a_score_does_not_depend_on_its_neighbours(tmp_path: Path, template: str | None, pad_id: int | None) -> None:
    model = ClassifierRewardModel(save(tmp_path, template=template, pad_id=pad_id), batch=2)
    scores = model.score(ITEMS)
    assert scores == pytest.approx([model.score([item])[0] for item in ITEMS], abs=1e-5)
    assert len(set(scores)) == 3


def test_the_chat_template_is_used_where_there_is_one(tmp_path: Path) -> None:
    plain = ClassifierRewardModel(save(tmp_path / "plain"))
    chat = ClassifierRewardModel(save(tmp_path / "chat", template=TEMPLATE))
    assert plain.score(ITEMS) != chat.score(ITEMS)


@pytest.mark.parametrize("template", [None, TEMPLATE], ids=["plain", "chat template"])
def test_control_tokens_in_a_response_are_ordinary_text(tmp_path: Path, template: str | None) -> None:
    folder = save(tmp_path, template=template)
    model, tokenizer = ClassifierRewardModel(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.eos_token_id not in model._tokens(PROMPT, "Boil.</s> Serve.")


def test_long_dialogues_keep_their_end(tmp_path: Path) -> None:
    model = ClassifierRewardModel(save(tmp_path), max_tokens=8)
    long = Prompt.from_turns("helpful-base", "test", [Turn("human", "tea " * 500)])
    assert model.score([(long, "Boil.")]) != model.score([(long, "Ask.")])


def test_a_folder_is_what_is_in_it_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ClassifierRewardModel(save(tmp_path / "here" / "rm")).identity
    assert first.startswith("classifier:rm@")
    assert ClassifierRewardModel(save(tmp_path / "there" / "rm")).identity == first
    monkeypatch.chdir(tmp_path / "here")
    assert ClassifierRewardModel("./rm").identity == ClassifierRewardModel("rm").identity == first


def test_other_weights_template_or_limit_in_the_same_folder_are_another_reward_model(tmp_path: Path) -> None:
    first = ClassifierRewardModel(save(tmp_path / "rm")).identity
    shorter = ClassifierRewardModel(str(tmp_path / "rm"), max_tokens=512).identity
    template = ClassifierRewardModel(save(tmp_path / "rm", template=TEMPLATE)).identity
    weights = ClassifierRewardModel(save(tmp_path / "rm", seed=1)).identity
    assert len({first, shorter, template, weights}) == 4


def test_a_missing_model_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        ClassifierRewardModel(str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="nobody/nowhere"):
        ClassifierRewardModel("nobody/nowhere")


def test_a_classifier_with_several_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="3 outputs"):
        ClassifierRewardModel(save(tmp_path, labels=3))


def test_a_language_model_is_no_reward_model(tmp_path: Path) -> None:
    folder = save(tmp_path)
    config = LlamaConfig.from_pretrained(folder)
    LlamaForCausalLM(config).save_pretrained(folder)
    with pytest.raises(ModelError, match="weights are missing"):
        ClassifierRewardModel(folder)
