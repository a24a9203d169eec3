"""Sequence classifiers as reward models, on tiny local ones, and the batches that all reward models score in."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM, LlamaForSequenceClassification
from transformers import LlamaConfig as Config

from cyclealign.errors import ModelError
from cyclealign.offline.tiny_models import train_tokenizer
from cyclealign.records import Prompt, Turn
from cyclealign.reward_models.reward_model import ClassifierRewardModel, score_by_length

PROMPT = Prompt.from_turns("helpful-base", "test", [Turn("human", "How do I brew tea?")])
ITEMS = [(PROMPT, "Boil water first."), (PROMPT, "No."), (PROMPT, "Ask a colleague who knows more about tea.")]
TEMPLATE = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def save(folder: Path, labels: int = 1, template: str | None = None, pad_id: int | None = 0, seed: int = 0) -> str:
    tokenizer = train_tokenizer(["How do I brew tea? Boil water first."])
    tokenizer.chat_template = template
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = Config(vocab_size=len(tokenizer), num_labels=labels, pad_token_id=pad_id, **SIZES)
        LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_scores_stand_in_the_order_of_the_rows_and_batches_hold_similar_lengths() -> None:
    rows = [[length] * length for length in (9, 2, 8, 1, 3)]
    batches: list[list[int]] = []

    def score(batch: list[list[int]]) -> list[float]:
        batches.append([len(row) for row in batch])
        return [float(row[0]) for row in batch]

    assert score_by_length(rows, 2, score) == [9.0, 2.0, 8.0, 1.0, 3.0]
    assert batches == [[1, 2], [3, 8], [9]]
    assert score_by_length([], 8, score) == []


@pytest.mark.parametrize("template", [None, TEMPLATE], ids=["plain", "chat template"])
@pytest.mark.parametrize("pad_id", [0, None], ids=["padding", "no padding"])
def test_a_score_does_not_depend_on_its_neighbours(tmp_path: Path, template: str | None, pad_id: int | None) -> None:
    model = ClassifierRewardModel(save(tmp_path, template=template, pad_id=pad_id), batch=2)
    scores = model.score(ITEMS)
    assert scores == pytest.approx([model.score([item])[0] for item in ITEMS], abs=1e-5)
    assert len(set(scores)) == 3


@pytest.mark.parametrize("template", [None, TEMPLATE], ids=["plain", "chat template"])
def test_control_tokens_in_a_response_are_ordinary_text(tmp_path: Path, template: str | None) -> None:
    folder = save(tmp_path, template=template)
    model, tokenizer = ClassifierRewardModel(folder), AutoTokenizer.from_pretrained(folder)
    tokens = model._tokens(PROMPT, "Boil.</s> Serve.")
    assert tokenizer.eos_token_id not in tokens
    assert ("<assistant>" in tokenizer.decode(tokens).replace(" ", "")) is (template is not None)


def test_long_dialogues_keep_their_end(tmp_path: Path) -> None:
    model = ClassifierRewardModel(save(tmp_path), max_tokens=8)
    long = Prompt.from_turns("helpful-base", "test", [Turn("human", "tea " * 500)])
    assert model.score([(long, "Boil.")]) != model.score([(long, "Ask.")])


def test_identity_follows_the_contents_and_the_limit_but_not_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ClassifierRewardModel(save(tmp_path / "here" / "rm")).identity
    assert first.startswith("classifier:rm@")
    assert ClassifierRewardModel(save(tmp_path / "there" / "rm")).identity == first
    monkeypatch.chdir(tmp_path / "here")
    assert ClassifierRewardModel("./rm").identity == ClassifierRewardModel("rm").identity == first
    shorter = ClassifierRewardModel("rm", max_tokens=512).identity
    template = ClassifierRewardModel(save(Path("rm"), template=TEMPLATE)).identity
    weights = ClassifierRewardModel(save(Path("rm"), seed=1)).identity
    assert len({first, shorter, template, weights}) == 4


def test_a_model_that_is_missing_or_of_another_kind_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = save(tmp_path / "language model")
    LlamaForCausalLM(Config.from_pretrained(folder)).save_pretrained(folder)
    for name, words in (
        (str(tmp_path / "nowhere"), "nowhere"),
        ("nobody/nowhere", "nobody/nowhere"),
        (save(tmp_path / "three", labels=3), "3 outputs"),
        (folder, r"as a reward model\. 1 weights are missing, first score"),
    ):
        with pytest.raises(ModelError, match=words):
            ClassifierRewardModel(name)
