"""Sampling from models whose cache holds states that rows cannot be repeated or selected of."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

from cyclealign.settings import SamplingSettings
from cyclealign.white_box.loading import quiet_transformers
from cyclealign.white_box.sampling import Ends, choose_tokens, decode, draw_uniforms

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [50, 51], [90, 91, 92, 93]]
SEEDS = [11, 12, 13]
WARM = SamplingSettings(temperature=1.0, max_new_tokens=12)
SIZES: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "initializer_range": 0.4,
    "pad_token_id": 0,
}
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32}
MODELS: dict[str, tuple[type[nn.Module], Any]] = {
    "state space": (MambaForCausalLM, MambaConfig(**SIZES, state_size=4)),
    "convolutions and attention": (
        Lfm2ForCausalLM,
        Lfm2Config(**SIZES, **HEADS, layer_types=["conv", "full_attention"]),
    ),
    "linear and full attention": (
        Qwen3NextForCausalLM,
        Qwen3NextConfig(
            **SIZES,
            **HEADS,
            head_dim=8,
            layer_types=["linear_attention", "full_attention"],
            linear_num_key_heads=2,
            linear_num_value_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            num_experts=2,
            num_experts_per_tok=1,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
        ),
    ),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    kind, config = MODELS[request.param]
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(0)
        return kind(config).eval()


def sampled(model: nn.Module, prompts: list[list[int]], seeds: list[int], stop_ids: tuple[int, ...] = ()) -> Any:
    uniforms = draw_uniforms(seeds, 3, WARM.max_new_tokens)
    with pytest.warns(UserWarning, match="cannot be spread over responses"):
        return decode(model, prompts, uniforms, WARM, Ends(stop_ids, lambda _: False))


@torch.no_grad()
def one_after_another(model: nn.Module, prompt: list[int], seed: int) -> list[list[int]]:
    """The same without any cache: the whole text is computed anew for every token."""
    rows = []
    for uniforms in draw_uniforms([seed], 3, WARM.max_new_tokens):
        tokens = list(prompt)
        for uniform in uniforms:
            logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[:, -1]
            tokens.append(int(choose_tokens(logits, uniform[None], WARM)))
        rows.append(tokens[len(prompt) :])
    return rows


def test_tokens_are_those_of_the_whole_text_computed_anew(model: nn.Module) -> None:
    expected = [
        row for prompt, seed in zip(PROMPTS, SEEDS, strict=True) for row in one_after_another(model, prompt, seed)
    ]
    assert sampled(model, PROMPTS, SEEDS) == expected


def test_what_a_prompt_gets_does_not_depend_on_the_prompts_beside_it(model: nn.Module) -> None:
    together = sampled(model, PROMPTS, SEEDS)
    assert sampled(model, PROMPTS[1:2], SEEDS[1:2]) == together[3:6]


def test_a_response_ends_with_its_stop_token_and_the_others_go_on(model: nn.Module) -> None:
    free = sampled(model, PROMPTS[:1], SEEDS[:1])
    stop = free[0][2]
    cut = [row[: row.index(stop) + 1] if stop in row else row for row in free]
    assert sampled(model, PROMPTS[:1], SEEDS[:1], stop_ids=(stop,)) == cut
