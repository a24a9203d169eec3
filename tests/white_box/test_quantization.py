"""4-bit base weights: how much they take, that they never change, and that everything on top works as on whole ones."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from cyclealign.errors import ModelError, UsageError
from cyclealign.model_sizes import NF4_BYTES
from cyclealign.white_box.loading import load_pretrained, quiet_transformers
from cyclealign.white_box.sequence_scores import SequenceScores
from cyclealign.white_box.weights import adapter_parameters
from cyclealign.white_box.white_box import WhiteBox
from tests.tiny_llama import byte_tokenizer, save_llama
from tests.white_box import boxes
from tests.white_box.boxes import PROMPTS, SAMPLING, examples_of, scored, settings_for

CPU = torch.device("cpu")
NF4 = {"quantization": "nf4"}
SEEDS = [1, 2, 3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Llama whose layers are large enough for every kernel of bitsandbytes."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_key_value_heads": 4, "initializer_range": 0.2}
    return save_llama(tmp_path_factory.mktemp("model"), **sizes)


def load(model: Path, **changes: Any) -> WhiteBox:
    return boxes.load(model, **{**NF4, **changes})


def linear_layers(white_box: WhiteBox) -> list[Any]:
    return [one for one in white_box.model.modules() if type(one).__module__.startswith("bitsandbytes.nn")]


def state_of(layer: Any) -> list[Tensor]:
    """All tensors that a 4-bit layer holds."""
    state = layer.weight.quant_state
    return [layer.weight.data, state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]


def base_tensors(white_box: WhiteBox) -> Iterator[Tensor]:
    for name, parameter in white_box.model.named_parameters():
        if ".lora_" not in name:
            yield parameter.data
    for layer in linear_layers(white_box):
        yield from state_of(layer)


def test_linear_layers_take_4_bits_a_weight_and_embedding_and_head_stay(model: Path) -> None:
    white_box = load(model, dtype="bfloat16")
    layers = linear_layers(white_box)
    assert len(layers) == 2 * 7
    weights = sum(layer.in_features * layer.out_features for layer in layers)
    assert sum(layer.weight.nbytes for layer in layers) == weights * 2 * 4 / 16
    scales = sum(layer.weight.quant_state.absmax.nbytes for layer in layers)
    assert scales == weights / 64  # of 8 bits: quantised a second time
    base = white_box.model.get_base_model()
    assert base.lm_head.weight.dtype == base.get_input_embeddings().weight.dtype == torch.bfloat16
    assert {layer.compute_dtype for layer in layers} == {torch.bfloat16}


def test_a_large_layer_takes_as_much_as_the_estimate_says(tmp_path: Path) -> None:
    layers = linear_layers(load(save_llama(tmp_path, hidden_size=512, intermediate_size=1024, num_hidden_layers=1)))
    held = sum(tensor.nbytes for layer in layers for tensor in state_of(layer))
    weights = sum(layer.in_features * layer.out_features for layer in layers)
    assert held / weights == pytest.approx(NF4_BYTES, rel=0.02)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_model_keeps_every_bit_while_the_adapter_learns(model: Path, dtype: str) -> None:
    white_box = load(model, dtype=dtype)
    assert {one.dtype for one in adapter_parameters(white_box.model).values()} == {torch.float32}
    before, adapter = [tensor.clone() for tensor in base_tensors(white_box)], white_box.weights_sha256()
    examples, losses = examples_of(white_box), []
    for _ in range(5):
        white_box.sample(PROMPTS, SEEDS, 3, SAMPLING)
        white_box.log_probabilities(scored(examples))
        losses.append(white_box.optimize(examples).loss)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]
    assert white_box.weights_sha256() != adapter
    after = list(base_tensors(white_box))
    assert len(after) == len(before)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_4_bit_weights_give_the_numbers_and_gradients_of_the_weights_they_stand_for(
    model: Path, tmp_path: Path
) -> None:
    with quiet_transformers():
        load_pretrained(settings_for(model, **NF4), None, CPU).model.dequantize().save_pretrained(tmp_path)
    byte_tokenizer(chat=True).save_pretrained(tmp_path)
    quantised, plain = load(model), boxes.load(tmp_path)
    for step in range(2):
        examples = examples_of(quantised, step)
        assert examples == examples_of(plain, step)
        found, expected = (
            [value.total for row in one.log_probabilities(scored(examples)) for value in row]
            for one in (quantised, plain)
        )
        assert found == pytest.approx(expected, rel=1e-5)
        one, other = quantised.optimize(examples), plain.optimize(examples)
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-4)


def test_packed_rows_give_the_numbers_of_separate_passes(model: Path) -> None:
    white_box = load(model)
    assert white_box._scores.packed
    examples = examples_of(white_box)
    white_box.optimize(examples)  # so that the adapter changes the output
    white_box.model.eval()
    rows = [white_box.row(prompt, responses) for prompt, responses in scored(examples)]
    with torch.no_grad():
        packed, separate = (SequenceScores(white_box.model, 1, packed=packed)(rows)[0] for packed in (True, False))
    torch.testing.assert_close(packed, separate, rtol=1e-5, atol=0)


def test_a_trained_adapter_is_loaded_for_inference_on_4_bit_weights(model: Path, tmp_path: Path) -> None:
    trained = load(model)
    examples = examples_of(trained)
    trained.optimize(examples)
    trained.save_adapter(tmp_path)
    loaded = WhiteBox.load_for_inference(settings_for(model, **NF4), adapter=tmp_path)
    assert loaded.weights_sha256() == trained.weights_sha256()
    assert loaded.log_probabilities(scored(examples)) == trained.log_probabilities(scored(examples))
    assert loaded.sample(PROMPTS, SEEDS, 3, SAMPLING) == trained.sample(PROMPTS, SEEDS, 3, SAMPLING)
    whole = WhiteBox.load_for_inference(settings_for(model), adapter=tmp_path)
    assert whole.log_probabilities(scored(examples)) != loaded.log_probabilities(scored(examples))
    # `whole` is described as before there was a choice
    assert loaded.description == trained.description == {**whole.description, "quantization": "nf4"}


def quantized_copy(model: Path, folder: Path, **changes: Any) -> Path:
    """The model as bitsandbytes' users publish it: saved in 4 bits."""
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", **changes)
    with quiet_transformers():
        loaded = AutoModelForCausalLM.from_pretrained(model, quantization_config=config, device_map={"": CPU})
        loaded.save_pretrained(folder)
    byte_tokenizer(chat=True).save_pretrained(folder)
    return folder


def test_an_adapter_is_not_merged_into_4_bit_weights(model: Path, tmp_path: Path) -> None:
    assert not load(model)._merge
    assert boxes.load(model)._merge
    assert not boxes.load(quantized_copy(model, tmp_path, bnb_4bit_quant_storage=torch.float32))._merge


def test_a_model_that_is_quantised_already_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").touch()
    for path, found in (
        (quantized_copy(model, tmp_path / "copy"), r"is quantised already \(bitsandbytes\).*quantization=none"),
        (tmp_path / "tiny.gguf", r"is a GGUF file\. Expected safetensors.*quantization=none"),
    ):
        with pytest.raises(ModelError, match=found):
            load_pretrained(settings_for(path, **NF4), None, CPU)


def test_the_error_of_a_missing_extra_has_the_command_that_installs_it(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as Python marks a package that it cannot import
    with pytest.raises(UsageError, match=r"'bitsandbytes' is not installed.*pip install .*'\.\[quantization\]'"):
        load_pretrained(settings_for(model, **NF4), None, CPU)
    assert load_pretrained(settings_for(model), None, CPU)
