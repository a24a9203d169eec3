"""Frozen states and the linear heads on them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cyclealign.errors import ModelError
from cyclealign.offline.preference_heads import (
    FittedArrays,
    FrozenModel,
    Reading,
    fit_head,
    linear,
    load_frozen,
    model_identity,
    pooled_states,
)
from cyclealign.offline.regression import Array
from cyclealign.records import Turn

TURNS = (Turn("human", "How do I cook rice?"), Turn("assistant", "Rinse it."), Turn("human", "And then?"))
RESPONSES = ("Add two cups of water.", "Yes<|end|>no", "")


@pytest.fixture
def frozen(frozen_folder: Path) -> FrozenModel:
    return load_frozen(frozen_folder)


def plain_states(model: torch.nn.Module, tokens: list[int], layer: int) -> np.ndarray:
    """The layer's output from one full pass without packing."""
    kept: list[torch.Tensor] = []
    hook = model.base_model.layers[layer - 1].register_forward_hook(lambda *call: kept.append(call[2]))
    with torch.inference_mode():
        model(torch.tensor([tokens]))
    hook.remove()
    return kept[0][0].numpy()


def test_pooled_states_are_means_over_separate_full_passes_and_leave_the_model(frozen: FrozenModel) -> None:
    reading, ids = Reading((1, 2), prompt_tokens=200, response_tokens=100), torch.tensor([[3, 4, 5]])
    before = frozen.model(ids).logits
    [pooled] = pooled_states(frozen, [(TURNS, RESPONSES)], reading)
    prompt, responses = frozen.row((TURNS, RESPONSES), reading)
    for place, layer in enumerate(reading.layers):
        for index, response in enumerate(responses):
            states = plain_states(frozen.model, [*prompt, *response], layer)
            np.testing.assert_allclose(pooled.responses[index, place], states[len(prompt) :].mean(0), atol=1e-5)
            np.testing.assert_allclose(pooled.prompt[place], states[: len(prompt)].mean(0), atol=1e-5)
    assert torch.equal(frozen.model(ids).logits, before)


def test_a_row_is_prompt_without_system_message_and_words_alone_cut_at_their_far_ends(frozen: FrozenModel) -> None:
    whole_prompt, (whole, spelled, empty) = frozen.row((TURNS, RESPONSES), Reading((1,), 1000, 1000))
    prompt, (response, *_) = frozen.row((TURNS, RESPONSES), Reading((1,), 10, 4))
    end = frozen.tokenizer.eos_token_id
    assert "You are tiny" not in frozen.tokenizer.decode(whole_prompt)
    assert (prompt, tuple(response)) == (whole_prompt[-10:], tuple(whole[:4]))
    assert end not in (*whole, *spelled)  # control tokens spelled out are text
    assert list(empty) == [end]


def test_missing_layers_and_weights_are_errors_with_what_to_set_or_make(frozen: FrozenModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has 2 layers.*\[3\].*preference\.judge_layer"):
        pooled_states(frozen, [(TURNS, RESPONSES)], Reading((3,), 50, 50))
    with pytest.raises(ModelError, match="make smollm2"):
        load_frozen(tmp_path)


def test_the_identity_follows_weights_and_tokenizer_and_not_the_place(frozen_folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(frozen_folder, tmp_path / "elsewhere")
    assert model_identity(moved) == model_identity(frozen_folder)
    tokenizer = json.loads((moved / "tokenizer_config.json").read_text())
    (moved / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "padding_side": "left"}))
    assert model_identity(moved) != model_identity(frozen_folder)


def test_each_kind_of_prompt_has_a_direction_of_its_own_and_standardised_scores() -> None:
    """The better reply of a pair lies along +e0 where harmless, and along -e0 elsewhere."""
    states, harmless = np.random.default_rng(0).normal(size=(200, 2, 5)) * 7 + 3, np.arange(200) % 2 == 0
    states[:, 0, 0] += np.where(harmless, 14, -14)
    head = fit_head(states, harmless)

    def right(kinds: Array) -> float:
        return float(np.mean(head.score(states[:, 0], kinds) > head.score(states[:, 1], kinds)))

    assert right(harmless.astype(float)) > 0.85
    assert right((~harmless).astype(float)) < 0.15
    scores = linear(states[~harmless].reshape(-1, states.shape[-1]), head.helpful)
    np.testing.assert_allclose([scores.mean(), scores.std()], [0, 1], atol=1e-9)
    both = (linear(states[:3, 0], head.harmless) + linear(states[:3, 0], head.helpful)) / 2
    np.testing.assert_allclose(head.score(states[:3, 0], np.full(3, 0.5)), both)


def test_fitted_arrays_come_back_from_their_file_and_only_for_their_model(tmp_path: Path) -> None:
    fitted = FittedArrays("a name", "model-1", Reading((16, 24), 112, 64), {"x": np.arange(3.0)})
    fitted.save(tmp_path / "heads")
    again = FittedArrays.load(tmp_path / "heads", "model-1")
    assert (again.identity, again.reading, again.arrays["x"].tolist()) == ("a name", fitted.reading, [0, 1, 2])
    with pytest.raises(ModelError, match="model model-1, found model model-2"):
        FittedArrays.load(tmp_path / "heads", "model-2")
    with pytest.raises(ModelError, match="No preference heads"):
        FittedArrays.load(tmp_path / "others", "model-1")
    (tmp_path / "broken").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="cannot be read"):
        FittedArrays.load(tmp_path / "broken", "model-1")
