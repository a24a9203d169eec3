"""4-bit base weights: what they take, that they never change, and that everything on top works as on whole ones."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

from cyclealign.errors import ModelError, UsageError
from cyclealign.model_sizes import NF4_BYTES
from cyclealign.records import Prompt, TrainingExample, Turn
from cyclealign.settings import MethodSettings, SamplingSettings, TrainingSettings, WhiteBoxSettings
from cyclealign.white_box.loading import Recipe, load_pretrained, quiet_transformers
from cyclealign.white_box.sequence_scores import SequenceScores
from cyclealign.white_box.weights import adapter_parameters
from cyclealign.white_box.white_box import WhiteBox
from tests.tiny_llama import byte_tokenizer

CPU = torch.device("cpu")
SAMPLING = SamplingSettings(max_new_tokens=12)
QUESTIONS = ["How do I cook rice?", "Tell me about the weather, please, in as few words as you can."]
PROMPTS = [Prompt.from_turns("helpful-base", "train", [Turn("human", text)]) for text in QUESTIONS]
EXAMPLES = [
    TrainingExample(prompt, ((5, 6, 7), (8, 9), (10,), (11, 12, 13, 14)), (3, 1, 0, 2), 3) for prompt in PROMPTS
]
SCORED = [(example.prompt, example.responses) for example in EXAMPLES]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Llama whose layers are large enough for every kernel of bitsandbytes."""
    folder, tokenizer = tmp_path_factory.mktemp("model"), byte_tokenizer(chat=True)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.2, **sizes, **ends)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def settings_for(model: Path, **changes: Any) -> WhiteBoxSettings:
    fixed = {"model": str(model), "max_length": 128, "sampling": SAMPLING, "device": "cpu"}
    return WhiteBoxSettings.model_validate({**fixed, "quantization": "nf4", **changes})


def load(model: Path, training: TrainingSettings | None = None, **changes: Any) -> WhiteBox:
    chosen = training or TrainingSettings(learning_rate=1e-2)
    return WhiteBox.load(Recipe(settings_for(model, **changes), chosen, MethodSettings(), seed=7))


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


def test_a_large_layer_takes_what_the_estimate_says(tmp_path: Path) -> None:
    sizes = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 1, "num_attention_heads": 4}
    with quiet_transformers():
        LlamaForCausalLM(LlamaConfig(vocab_size=300, **sizes)).save_pretrained(tmp_path)
    byte_tokenizer(chat=True).save_pretrained(tmp_path)
    layers = linear_layers(load(tmp_path))
    held = sum(tensor.nbytes for layer in layers for tensor in state_of(layer))
    weights = sum(layer.in_features * layer.out_features for layer in layers)
    assert held / weights == pytest.approx(NF4_BYTES, rel=0.02)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_model_keeps_every_bit_while_the_adapter_learns(model: Path, dtype: str) -> None:
    white_box = load(model, dtype=dtype)
    assert {one.dtype for one in adapter_parameters(white_box.model).values()} == {torch.float32}
    before, adapter = [tensor.clone() for tensor in base_tensors(white_box)], white_box.weights_sha256()
    losses = []
    for step in range(5):
        white_box.sample(PROMPTS, [step, step], 3, SAMPLING)
        white_box.log_probabilities(SCORED)
        losses.append(white_box.optimize(EXAMPLES).loss)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]
    assert white_box.weights_sha256() != adapter
    after = list(base_tensors(white_box))
    assert len(after) == len(before)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_4_bit_weights_give_the_numbers_and_gradients_of_the_weights_they_stand_for(
    model: Path, tmp_path: Path
) -> None:
    with quiet_transformers():
        load_pretrained(settings_for(model), None, CPU).model.dequantize().save_pretrained(tmp_path)
    byte_tokenizer(chat=True).save_pretrained(tmp_path)
    quantised, plain = load(model), load(tmp_path, quantization="none")
    for step in range(3):
        seeds = [step, step + 1]
        assert quantised.sample(PROMPTS, seeds, 3, SAMPLING) == plain.sample(PROMPTS, seeds, 3, SAMPLING)
        found, expected = (
            [value.total for row in one.log_probabilities(SCORED) for value in row] for one in (quantised, plain)
        )
        assert found == pytest.approx(expected, rel=1e-5)
        one, other = quantised.optimize(EXAMPLES), plain.optimize(EXAMPLES)
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-4)


def test_an_adapter_is_not_merged_into_4_bit_weights(model: Path, tmp_path: Path) -> None:
    assert not load(model)._merge
    assert load(model, quantization="none")._merge
    stored_as_float = quantized_copy(model, tmp_path, bnb_4bit_quant_storage=torch.float32)
    assert not load(stored_as_float, quantization="none")._merge


def test_equal_seeds_end_in_equal_bits_also_over_a_checkpoint(model: Path, tmp_path: Path) -> None:
    straight, again = load(model), load(model)
    for step in range(4):
        straight.sample(PROMPTS, [step, step], 2, SAMPLING)
        straight.optimize(EXAMPLES)
        again.optimize(EXAMPLES)
        if step == 1:
            again.save_checkpoint(tmp_path)
    resumed = load(model)
    resumed.load_checkpoint(tmp_path)
    for _ in range(2):
        resumed.optimize(EXAMPLES)
    assert straight.weights_sha256() == again.weights_sha256() == resumed.weights_sha256()


def test_gradient_checkpointing_gives_the_same_steps(model: Path) -> None:
    plain, saving = (
        load(model, TrainingSettings(learning_rate=1e-2, gradient_checkpointing=chosen)) for chosen in (False, True)
    )
    for _ in range(2):
        one, other = plain.optimize(EXAMPLES), saving.optimize(EXAMPLES)
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-4)


def test_packed_rows_give_the_numbers_of_separate_passes(model: Path) -> None:
    white_box = load(model)
    assert white_box._scores.packed
    white_box.optimize(EXAMPLES)  # so that the adapter changes the output
    white_box.model.eval()
    rows = [white_box.row(prompt, responses) for prompt, responses in SCORED]
    with torch.no_grad():
        packed, separate = (SequenceScores(white_box.model, 1, packed=packed)(rows)[0] for packed in (True, False))
    torch.testing.assert_close(packed, separate, rtol=1e-5, atol=0)


def test_a_trained_adapter_is_loaded_for_inference_on_4_bit_weights(model: Path, tmp_path: Path) -> None:
    trained = load(model)
    for _ in range(3):
        trained.optimize(EXAMPLES)
    trained.save_adapter(tmp_path)
    loaded = WhiteBox.load_for_inference(settings_for(model), adapter=tmp_path)
    assert loaded.weights_sha256() == trained.weights_sha256()
    assert loaded.log_probabilities(SCORED) == trained.log_probabilities(SCORED)
    assert loaded.sample(PROMPTS, [1, 2], 3, SAMPLING) == trained.sample(PROMPTS, [1, 2], 3, SAMPLING)
    assert loaded.description == trained.description
    whole = WhiteBox.load_for_inference(settings_for(model, quantization="none"), adapter=tmp_path)
    assert whole.log_probabilities(SCORED) != loaded.log_probabilities(SCORED)


def test_a_quantised_model_is_another_one_than_the_whole(model: Path) -> None:
    whole, quantised = (
        WhiteBox.load_for_inference(settings_for(model, quantization=chosen)).description for chosen in ("none", "nf4")
    )
    assert quantised == {**whole, "quantization": "nf4"}
    assert "quantization" not in whole  # as it was known before there was a choice
    assert json.loads(json.dumps(quantised)) == quantised


def quantized_copy(model: Path, folder: Path, **changes: Any) -> Path:
    """The model as bitsandbytes' users publish it: saved in 4 bits."""
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", **changes)
    with quiet_transformers():
        AutoModelForCausalLM.from_pretrained(model, quantization_config=config, device_map={"": CPU}).save_pretrained(
            folder
        )
    byte_tokenizer(chat=True).save_pretrained(folder)
    return folder


def test_a_model_that_is_quantised_already_is_refused(model: Path, tmp_path: Path) -> None:
    folder = quantized_copy(model, tmp_path)
    with pytest.raises(ModelError, match=r"is quantised already \(bitsandbytes\).*quantization=none"):
        load_pretrained(settings_for(folder), None, CPU)


def test_a_gguf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").touch()
    with pytest.raises(ModelError, match=r"is a GGUF file\. Expected safetensors.*quantization=none"):
        load_pretrained(settings_for(tmp_path / "tiny.gguf"), None, CPU)


def test_a_missing_extra_is_told_with_the_command_that_installs_it(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as Python marks what cannot be imported
    with pytest.raises(UsageError, match=r"'bitsandbytes' is not installed.*pip install .*'\.\[quantization\]'"):
        load_pretrained(settings_for(model), None, CPU)
    assert load_pretrained(settings_for(model, quantization="none"), None, CPU)
