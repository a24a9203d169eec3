"""Models from folders and files, what is refused and with which words, and what a new adapter is made of."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaModel,
    T5Config,
    T5ForConditionalGeneration,
)

from cyclealign.errors import ModelError
from cyclealign.settings import LoraSettings
from cyclealign.white_box.loading import load_pretrained, quiet_transformers
from cyclealign.white_box.weights import adapter_parameters
from cyclealign.white_box.white_box import WhiteBox
from tests.white_box.boxes import load, settings_for

CPU = torch.device("cpu")


def test_a_folder_loads_frozen_in_float32_on_a_cpu_and_says_nothing(
    tiny_llama: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pretrained = load_pretrained(settings_for(tiny_llama), None, CPU)
    assert capfd.readouterr() == ("", "")
    assert {parameter.dtype for parameter in pretrained.model.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in pretrained.model.parameters())
    assert not pretrained.model.training


def test_the_adapter_depends_on_the_seed_alone(tiny_llama: Path) -> None:
    digests = []
    for state, seed in [(1, 5), (2, 5), (2, 6)]:
        torch.manual_seed(state)
        digests.append(load(tiny_llama, seed=seed).weights_sha256())
    assert digests[0] == digests[1] != digests[2]


def test_a_new_adapter_sits_on_all_linear_layers_and_changes_no_output(tiny_llama: Path) -> None:
    model = load(tiny_llama).model
    adapted = {name.split(".")[-3] for name in adapter_parameters(model)}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    plain = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    tokens = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(model.eval()(tokens).logits, plain(tokens).logits)


def test_a_saved_adapter_is_pefts_own_format(tiny_llama: Path, tmp_path: Path) -> None:
    white_box = load(tiny_llama)
    white_box.save_adapter(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_llama), str(tmp_path / "adapter"))
    ours = adapter_parameters(white_box.model)
    assert all(torch.equal(tensor, ours[name]) for name, tensor in adapter_parameters(loaded).items())
    again = WhiteBox.load_for_inference(settings_for(tiny_llama), adapter=tmp_path / "adapter")
    assert again.weights_sha256() == white_box.weights_sha256()


def test_identity_is_in_the_contents_and_not_in_the_place(make_tiny_llama: Callable[..., Path]) -> None:
    def identity(folder: Path) -> dict[str, Any]:
        description = WhiteBox.load_for_inference(settings_for(folder)).description
        return {key: value for key, value in description.items() if key != "model"}

    first, copy = identity(make_tiny_llama("a")), identity(make_tiny_llama("b"))
    assert first == copy
    assert identity(make_tiny_llama("c", seed=1))["files_sha256"] != first["files_sha256"]
    assert identity(make_tiny_llama("d", chat=False))["tokenizer_sha256"] != first["tokenizer_sha256"]


def test_model_path_stands_before_the_settings_model(tiny_llama: Path) -> None:
    white_box = WhiteBox.load_for_inference(settings_for("world"), model_path=str(tiny_llama))
    assert white_box.description["model"] == tiny_llama.name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./nowhere", "No folder"),
        ("./nowhere.gguf", "No file"),
        ("nobody/no-such-model", "Cannot load 'nobody/no-such"),
    ],
    ids=["folder", "gguf", "hub"],
)
def test_a_model_that_is_not_there_is_named(name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_pretrained(settings_for(name), None, CPU)


def break_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x10\x00\x00\x00")


def become_a_translator(folder: Path) -> None:
    config = T5Config(vocab_size=300, d_model=8, d_ff=8, num_layers=1, num_heads=1)
    T5ForConditionalGeneration(config).save_pretrained(folder)


def lose_the_head(folder: Path) -> None:
    LlamaModel(LlamaConfig.from_pretrained(folder)).save_pretrained(folder)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (break_weights, "Cannot load"),
        (become_a_translator, "causal language model"),
        (lose_the_head, r"weights are missing, first lm_head\.weight"),
    ],
)
def test_a_folder_without_a_whole_causal_lm_is_refused(
    tiny_llama: Path, spoil: Callable[[Path], None], words: str
) -> None:
    with quiet_transformers():
        spoil(tiny_llama)
    with pytest.raises(ModelError, match=words):
        load_pretrained(settings_for(tiny_llama), None, CPU)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_length": 512}, "at most 256"),
        (
            {"lora": LoraSettings(target_modules=("query",))},
            "down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj",
        ),
    ],
    ids=["context", "target modules"],
)
def test_settings_that_do_not_fit_the_model_are_refused_with_those_that_do(
    tiny_llama: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        load(tiny_llama, **changes)


def test_an_adapter_of_another_model_or_none_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No adapter in"):
        WhiteBox.load_for_inference(settings_for(tiny_llama), adapter=tmp_path)
    load(tiny_llama).save_adapter(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace("q_proj", "query"))
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="does not fit"):
        WhiteBox.load_for_inference(settings_for(tiny_llama), adapter=tmp_path / "adapter")


def test_cuda_without_a_gpu_is_refused(tiny_llama: Path) -> None:
    if torch.cuda.is_available():
        assert load(tiny_llama, device="cuda").weights_sha256()
        return
    with pytest.raises(ModelError, match="no CUDA device"):
        load(tiny_llama, device="cuda")


def write_gguf(path: Path, tokenizer_folder: Path) -> None:
    """A one-layer Llama with random weights in llama.cpp's format, half of them quantised to 8 bits."""
    generator = np.random.default_rng(0)
    tokenizer = json.loads(AutoTokenizer.from_pretrained(tokenizer_folder).backend_tokenizer.to_str())
    vocabulary = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    writer = GGUFWriter(path, "llama")
    figures = {"block_count": 1, "context_length": 256, "embedding_length": 32, "feed_forward_length": 64}
    figures |= {"head_count": 4, "head_count_kv": 2, "vocab_size": len(vocabulary)}
    ends = {"bos_token_id": vocabulary.index("<|begin|>"), "eos_token_id": vocabulary.index("<|end|>")}
    for name, value in {**figures, **ends, "layer_norm_rms_eps": 1e-5, "tokenizer_model": "gpt2"}.items():
        getattr(writer, f"add_{name}")(value)
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    shapes = {"token_embd": (len(vocabulary), 32), "output": (len(vocabulary), 32), "output_norm": (32,)}
    shapes |= {f"blk.0.attn_{name}": (size, 32) for name, size in [("q", 32), ("k", 16), ("v", 16), ("output", 32)]}
    shapes |= {"blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64)}
    shapes |= {"blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,)}
    for name, shape in shapes.items():
        values = generator.normal(0, 0.2, shape).astype(np.float32)
        if "ffn" in name and len(shape) == 2:
            packed = quantize(values, GGMLQuantizationType.Q8_0)
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_loads_dequantised_and_can_be_saved_as_an_ordinary_model(tiny_llama: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, tiny_llama)
    settings = settings_for(path, prompt_format="plain")
    model = load_pretrained(settings, None, CPU).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    with quiet_transformers():
        model.save_pretrained(tmp_path / "saved")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    tokens = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(saved(tokens).logits, model(tokens).logits)
    assert WhiteBox.load_for_inference(settings).description["model"] == "tiny.gguf"
