"""Packed rows: who sees whom, and the log-probabilities, losses and gradients of separate full passes."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from cyclealign.method.objectives import pro_loss, rrhf_loss
from cyclealign.settings import LoraSettings
from cyclealign.white_box.loading import add_adapter, quiet_transformers
from cyclealign.white_box.sequence_scores import Row, SequenceScores, Span, accepts_packed_rows, pack, plan_passes

SHORT: list[Row] = [([1, 2, 3], [[4, 5], [6]]), ([7], [[8, 9, 10]])]
ROWS: list[Row] = [
    ([5, 6, 7, 8, 9], [[10, 11, 12], [13], [14, 15, 16, 17, 18, 19], [20, 21]]),
    ([30, 31], [[32, 33], [34, 35, 36, 37], [38], [39, 40, 41]]),
    ([50, 51, 52, 53, 54, 55, 56, 57], [[58], [59, 60], [61, 62, 63], [64, 65]]),
]
FLOAT, HALF = torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16)


def test_a_row_is_the_prompt_once_and_every_response_behind_it_at_positions_that_restart() -> None:
    packed = pack(SHORT, pad_id=0, like=FLOAT)
    assert packed.token_ids.tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 0, 0]]
    assert packed.spans == [[Span(3, 3, 5), Span(3, 5, 6)], [Span(1, 1, 4)]]
    assert packed.position_ids[0].tolist() == [0, 1, 2, 3, 4, 3]
    assert packed.position_ids[1, :4].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("like", [FLOAT, HALF], ids=["float32", "bfloat16"])
def test_a_response_sees_the_prompt_and_its_own_past_and_nothing_else(like: Tensor) -> None:
    mask = pack(SHORT, pad_id=0, like=like).attention_mask
    assert (mask.dtype, mask.shape, mask.min()) == (like.dtype, (2, 1, 6, 6), torch.finfo(like.dtype).min)
    prompt, first, second = {0, 1, 2}, {3, 4}, {5}
    for query in range(6):
        own = next(group for group in (prompt, first, second) if query in group)
        expected = {key for key in prompt | own if key <= query}
        assert set((mask[0, 0, query] == 0).nonzero().flatten().tolist()) == expected
    padded = mask[1, 0] == 0
    assert not padded[:4, 4:].any()
    assert padded.any(-1).all()  # padding sees itself, so that no softmax is empty


def test_every_first_token_is_predicted_by_the_prompts_last() -> None:
    rows, columns, targets = pack(SHORT, pad_id=0, like=FLOAT).predicting_positions()
    assert rows.tolist() == [0, 0, 0, 1, 1, 1]
    assert columns.tolist() == [2, 3, 2, 0, 1, 2]
    assert targets.tolist() == [4, 5, 6, 8, 9, 10]


@dataclass(frozen=True)
class Rounding:
    """How far packed rows may be from separate passes: other kernels, so other roundings of the same sums."""

    score: float
    """Relative, of a response's log-probability."""
    loss: float
    """Relative."""
    gradient: float
    """Relative to itself."""
    gradients: float
    """Relative to the largest gradient."""


ROUNDING = {
    torch.float32: Rounding(score=1e-5, loss=1e-5, gradient=1e-4, gradients=1e-5),
    torch.bfloat16: Rounding(score=2e-2, loss=5e-3, gradient=0, gradients=5e-2),  # one rounding: 4e-3
}
in_both_dtypes = pytest.mark.parametrize("dtype", ROUNDING, ids=str)
ATTENTION = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 16, "intermediate_size": 32}
SIZES: dict[str, Any] = {"vocab_size": 100, "initializer_range": 0.4}


def tiny_llama_under_lora(dtype: torch.dtype = torch.float32) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**SIZES, **ATTENTION)).eval()
    model = add_adapter(model.to(dtype).requires_grad_(False), LoraSettings(rank=4), seed=1)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at the start, which would hide half of the gradients
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def loss_and_gradients(scores: SequenceScores, objective: Any) -> tuple[Tensor, dict[str, Tensor]]:
    scores.zero_grad()
    total, tokens = scores(ROWS)
    loss = torch.stack([objective(p) - 9 * p[0] for p in (total / tokens).view(3, 4)]).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: parameter.grad for name, parameter in scores.named_parameters() if parameter.requires_grad}
    return loss.detach(), {name: gradient.clone() for name, gradient in gradients.items() if gradient is not None}


@in_both_dtypes
@pytest.mark.parametrize("objective", [rrhf_loss, pro_loss], ids=["rrhf", "pro"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "gradient-checkpointing"])
def test_packed_rows_give_the_loss_and_gradients_of_separate_passes(
    dtype: torch.dtype, objective: Any, checkpointing: bool
) -> None:
    model, rounding = tiny_llama_under_lora(dtype), ROUNDING[dtype]
    separate, expected = loss_and_gradients(SequenceScores(model, 0, packed=False), objective)
    if checkpointing:
        model.get_base_model().activation_checkpointing_enable()
        model.train()
    packed, gradients = loss_and_gradients(SequenceScores(model, 0, packed=True), objective)
    torch.testing.assert_close(packed, separate, rtol=rounding.loss, atol=0)
    largest = max(gradient.abs().max() for gradient in expected.values())
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        room = rounding.gradients * float(largest)
        torch.testing.assert_close(gradient, expected[name], rtol=rounding.gradient, atol=room)


@in_both_dtypes
def test_log_probabilities_are_those_of_one_response_computed_alone(dtype: torch.dtype) -> None:
    model, rounding = tiny_llama_under_lora(dtype), ROUNDING[dtype]
    with torch.no_grad():
        total, tokens = SequenceScores(model, 0, packed=True)(ROWS)
        flat = [(prompt, response) for prompt, responses in ROWS for response in responses]
        for index, (prompt, response) in enumerate(flat):
            sequence = torch.tensor([[*prompt, *response]])
            steps = model(input_ids=sequence).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
            alone = sum(float(steps[position, token]) for position, token in enumerate(response))
            assert float(total[index]) == pytest.approx(alone, rel=rounding.score)
            assert int(tokens[index]) == len(response)


def test_equal_inputs_give_equal_bits_also_with_a_pad_id_that_is_a_token() -> None:
    model = tiny_llama_under_lora()
    loss, gradients = loss_and_gradients(SequenceScores(model, 0, packed=True), pro_loss)
    again, repeated = loss_and_gradients(SequenceScores(model, 14, packed=True), pro_loss)
    assert torch.equal(loss, again)
    assert all(torch.equal(gradient, repeated[name]) for name, gradient in gradients.items())


WINDOWED = {**SIZES, **ATTENTION, "num_key_value_heads": 2}
GPT2 = GPT2Config(**SIZES, n_embd=16, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
MODELS: dict[str, tuple[Any, Any, bool]] = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES, **ATTENTION), True),
    "learnt positions": (GPT2LMHeadModel, GPT2, True),
    "window beyond the context": (MistralForCausalLM, MistralConfig(sliding_window=4096, **WINDOWED), True),
    "window inside the context": (MistralForCausalLM, MistralConfig(sliding_window=64, **WINDOWED), False),
    "alibi": (BloomForCausalLM, BloomConfig(**SIZES, hidden_size=16, n_layer=2, n_head=4), False),
    "scaled logits": (GraniteForCausalLM, GraniteConfig(logits_scaling=8.0, **SIZES, **ATTENTION), False),
    "state space": (MambaForCausalLM, MambaConfig(**SIZES, hidden_size=16, state_size=4, num_hidden_layers=2), False),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_for_which_packed_rows_are_wrong_are_found_out(name: str) -> None:
    kind, config, expected = MODELS[name]
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(0)
        model: nn.Module = kind(config).eval()
        assert accepts_packed_rows(model, pad_id=0, max_length=256) is expected


def test_passes_hold_similar_lengths_within_the_budget_and_every_row_once() -> None:
    rows: list[Row] = [([1] * length, [[2] * 10]) for length in (40, 5, 90, 6, 41, 300)]
    passes = plan_passes(rows, tokens=110, packed=True)
    assert sorted(index for indices in passes for index in indices) == list(range(6))
    assert passes == [[5], [2], [4, 0], [3, 1]]
