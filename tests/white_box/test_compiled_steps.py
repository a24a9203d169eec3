"""Compiled passes: the tokens of the engine transformers, whatever was sampled before, and who cannot have them.

Torch traces the passes as for a GPU; here they run as they were traced, because generating machine code takes longer
than all else, except in one test.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, CompileConfig, MistralConfig, MistralForCausalLM

from cyclealign.errors import ModelError
from cyclealign.settings import SamplingSettings
from cyclealign.white_box import sampling
from cyclealign.white_box.sampling import CompiledSteps, Ends, decode, draw_uniforms
from tests.white_box.test_white_box import PROMPTS, load, train

WARM = SamplingSettings(temperature=1.0, max_new_tokens=20)
GROUPS = ([[5, 6, 7, 8, 9, 10, 11], [50, 51], [100, 101, 102, 103]], [[5, 6, 7]], [list(range(2, 120))], [[5], [6, 7]])
COMPILED = SamplingSettings(max_new_tokens=16, engine="compiled")


@pytest.fixture(autouse=True)
def traced_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch._dynamo.reset()
    monkeypatch.setattr(sampling, "COMPILATION", CompileConfig(backend="eager", mode=None))
    yield
    torch._dynamo.reset()


def test_the_tokens_are_those_of_growing_passes_also_where_others_were_sampled_before(tiny_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    steps = CompiledSteps(model)
    differed = []
    for prompts in (*GROUPS, *GROUPS[::-1]):
        uniforms = draw_uniforms(range(len(prompts)), 3, WARM.max_new_tokens)
        stop = decode(model, prompts, uniforms, WARM, Ends((), never))[0][3]
        ends = Ends((stop,), never)
        expected = decode(model, prompts, uniforms, WARM, ends)
        assert decode(steps, prompts, uniforms, WARM, ends) == expected
        differed.append(len({len(tokens) for tokens in expected}) > 1)
    assert all(differed), "in every group some end before others"


def never(_: object) -> bool:
    return False


def test_the_machine_code_of_this_device_gives_them_too(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "COMPILATION", None)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    uniforms = draw_uniforms([1, 2, 3], 3, 20)
    expected = decode(model, GROUPS[0], uniforms, WARM, Ends((), never))
    assert decode(CompiledSteps(model), GROUPS[0], uniforms, WARM, Ends((), never)) == expected


def test_a_white_box_samples_with_its_newest_adapter(tiny_llama: Path) -> None:
    white_box = load(tiny_llama)
    plain = COMPILED.model_copy(update={"engine": "transformers"})
    seen = []
    for step in range(3):
        sampled = white_box.sample(PROMPTS, [1, 2, 3], 3, COMPILED)
        assert sampled == white_box.sample(PROMPTS, [1, 2, 3], 3, plain)
        seen.append(sampled)
        train(white_box, range(step, step + 1))
    assert seen[0] != seen[1] != seen[2]


def test_a_machine_that_cannot_compile_is_told_what_is_missing(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("no compiler found")

    monkeypatch.setattr(sampling, "COMPILATION", CompileConfig(backend=failing, mode=None))
    with pytest.raises(ModelError, match=r"no compiler found.* set sampling\.engine=transformers"):
        load(tiny_llama).sample(PROMPTS, [1, 2, 3], 2, COMPILED)


def test_a_model_with_windows_is_sampled_from_as_it_is_and_that_is_told(tmp_path: Path) -> None:
    config: dict[str, Any] = dict.fromkeys(("hidden_size", "intermediate_size"), 16)
    heads = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    model = MistralForCausalLM(MistralConfig(vocab_size=50, sliding_window=8, **config, **heads))
    with pytest.warns(UserWarning, match="cannot be sampled from"):
        assert CompiledSteps.of(model, "mistral", packed=True) is None
    assert CompiledSteps.of(
        MistralForCausalLM(MistralConfig(vocab_size=50, sliding_window=None, **config, **heads)), "mistral", packed=True
    )


def test_a_white_box_that_cannot_have_them_says_so_and_samples(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    white_box = load(tiny_llama)
    white_box._scores.packed = False
    plain = white_box.sample(PROMPTS, [1, 2, 3], 2, COMPILED.model_copy(update={"engine": "transformers"}))
    with pytest.warns(UserWarning, match="cannot be sampled from with compiled passes"):
        assert white_box.sample(PROMPTS, [1, 2, 3], 2, COMPILED) == plain
