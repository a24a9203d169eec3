import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cyclealign.errors import ModelError
from cyclealign.offline.frozen_features import Reading, load_frozen, model_identity, pooled_states
from cyclealign.records import Turn

TURNS = (Turn("human", "How do I cook rice?"), Turn("assistant", "Rinse it."), Turn("human", "And then?"))
RESPONSES = ("Add two cups of water.", "No.", "")


def plain_states(folder: Path, prompt: list[int], response: tuple[int, ...], layer: int) -> np.ndarray:
    """The layer's output over the response, from one full pass without packing."""
    kept: list[torch.Tensor] = []
    model = load_frozen(folder).model
    hook = model.base_model.layers[layer - 1].register_forward_hook(lambda *call: kept.append(call[2]))
    with torch.inference_mode():
        model(torch.tensor([[*prompt, *response]]))
    hook.remove()
    return kept[0][0, len(prompt) :].numpy()


@pytest.mark.parametrize("layer", [1, 2])
def test_pooled_states_are_means_over_what_separate_full_passes_give(frozen_folder: Path, layer: int) -> None:
    frozen = load_frozen(frozen_folder)
    reading = Reading((layer,), prompt_tokens=200, response_tokens=100)
    pooled = pooled_states(frozen, [(TURNS, RESPONSES)], reading)[0]
    prompt, responses = frozen.row((TURNS, RESPONSES), reading)
    for index, response in enumerate(responses):
        expected = plain_states(frozen_folder, list(prompt), tuple(response), layer).mean(0)
        np.testing.assert_allclose(pooled.responses[index, 0], expected, atol=1e-5)


def test_rows_come_back_in_the_order_given_whatever_their_length(frozen_folder: Path) -> None:
    frozen, reading = load_frozen(frozen_folder), Reading((1, 2), 50, 50)
    dialogues = [(TURNS, ("long " * count,)) for count in (30, 1, 12)]
    together = pooled_states(frozen, dialogues, reading)
    for dialogue, pooled in zip(dialogues, together, strict=True):
        alone = pooled_states(frozen, [dialogue], reading)[0]
        np.testing.assert_allclose(pooled.responses, alone.responses, atol=1e-5)
        np.testing.assert_allclose(pooled.prompt, alone.prompt, atol=1e-5)


def test_prompts_are_cut_on_the_left_and_responses_on_the_right(frozen_folder: Path) -> None:
    frozen = load_frozen(frozen_folder)
    whole_prompt, (whole,) = frozen.row((TURNS, ("Add two cups of water.",)), Reading((1,), 1000, 1000))
    prompt, (response,) = frozen.row((TURNS, ("Add two cups of water.",)), Reading((1,), 10, 4))
    assert prompt == whole_prompt[-10:]
    assert tuple(response) == tuple(whole[:4])


def test_the_template_s_own_system_message_is_not_read(frozen_folder: Path) -> None:
    frozen = load_frozen(frozen_folder)
    prompt, _ = frozen.row((TURNS, ("Yes.",)), Reading((1,), 1000, 1000))
    assert "You are tiny" not in frozen.tokenizer.decode(prompt)


def test_a_response_is_its_words_alone_whether_it_ended_or_was_cut(frozen_folder: Path) -> None:
    frozen = load_frozen(frozen_folder)
    texts = ("Add two cups of water.", "Yes<|end|>no", "")
    _, (whole, spelled, empty) = frozen.row((TURNS, texts), Reading((1,), 100, 100))
    _, (exact,) = frozen.row((TURNS, texts[:1]), Reading((1,), 100, len(whole)))
    end = frozen.tokenizer.eos_token_id
    assert end not in whole
    assert exact == whole
    assert end not in spelled  # control tokens spelled out are text
    assert list(empty) == [end]


def test_reading_leaves_the_model_as_it_was(frozen_folder: Path) -> None:
    frozen = load_frozen(frozen_folder)
    ids = torch.tensor([[3, 4, 5]])
    before = frozen.model(ids).logits
    pooled_states(frozen, [(TURNS, RESPONSES)], Reading((1,), 50, 50))
    assert len(frozen.model.base_model.layers) == 2
    assert torch.equal(frozen.model(ids).logits, before)


def test_a_layer_that_the_model_lacks_is_an_error_that_names_the_setting(frozen_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"has 2 layers.*\[3\].*preference\.judge_layer"):
        pooled_states(load_frozen(frozen_folder), [(TURNS, RESPONSES)], Reading((3,), 50, 50))


def test_a_folder_without_weights_is_an_error_that_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="make smollm2"):
        load_frozen(tmp_path)


def test_the_identity_follows_weights_and_tokenizer_and_not_the_place(frozen_folder: Path) -> None:
    before = model_identity(frozen_folder)
    moved = frozen_folder.rename(frozen_folder.with_name("elsewhere"))
    assert model_identity(moved) == before
    tokenizer = json.loads((moved / "tokenizer_config.json").read_text())
    (moved / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "padding_side": "left"}))
    assert model_identity(moved) != before
