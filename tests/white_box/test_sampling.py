"""The decoding loop: what is drawn, from what randomness, and that neighbours and stops do not matter."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from cyclealign.settings import SamplingSettings
from cyclealign.white_box import sampling
from cyclealign.white_box.sampling import Ends, choose_tokens, decode, draw_uniforms

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [50, 51], [100, 101, 102, 103]]
SEEDS = [11, 12, 13]
STOP = 1
WARM = SamplingSettings(temperature=1.0, max_new_tokens=20)
GREEDY = SamplingSettings(temperature=0, max_new_tokens=20)


TIE = {torch.float32: 0.0, torch.bfloat16: 0.1}
"""Nats between two tokens that rounding may swap: in bfloat16, logits of 4 to 8 are multiples of 2^-5."""


@pytest.fixture
def model(tiny_llama: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_llama).eval()


def run(
    model: Any,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sampling: SamplingSettings,
    *,
    responses: int = 3,
    stop_ids: tuple[int, ...] = (STOP,),
) -> list[list[int]]:
    uniforms = draw_uniforms(seeds, responses, sampling.max_new_tokens)
    return decode(model, prompts, uniforms, sampling, Ends(stop_ids, lambda _: False))


@pytest.mark.parametrize("dtype", TIE, ids=str)
def test_greedy_tokens_are_those_of_generate_up_to_a_tie(model: Any, dtype: torch.dtype) -> None:
    ours = run(model.to(dtype), PROMPTS, SEEDS, GREEDY, responses=1)
    for prompt, tokens in zip(PROMPTS, ours, strict=True):
        theirs = model.generate(
            torch.tensor([prompt]), max_new_tokens=20, do_sample=False, eos_token_id=STOP, pad_token_id=0
        )
        assert parted(model, prompt, tokens, theirs[0, len(prompt) :].tolist()) <= TIE[dtype]


@torch.no_grad()
def parted(model: Any, prompt: list[int], ours: list[int], theirs: list[int]) -> float:
    """How many nats lie between the two tokens at which the responses part; 0 where they are the same."""
    if ours == theirs:
        return 0.0
    at = next(at for at, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other)
    logits = model(input_ids=torch.tensor([[*prompt, *ours[:at]]])).logits[0, -1].float()
    return float((logits[ours[at]] - logits[theirs[at]]).abs())


def test_what_a_prompt_gets_does_not_depend_on_the_prompts_beside_it(model: Any) -> None:
    together = run(model, PROMPTS, SEEDS, WARM)
    alone = [
        tokens for prompt, seed in zip(PROMPTS, SEEDS, strict=True) for tokens in run(model, [prompt], [seed], WARM)
    ]
    reverse = run(model, PROMPTS[::-1], SEEDS[::-1], WARM)
    assert together == alone
    assert together == [*reverse[6:], *reverse[3:6], *reverse[:3]]


def test_the_global_random_state_neither_matters_nor_changes(model: Any) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = run(model, PROMPTS, SEEDS, WARM)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert run(model, PROMPTS, SEEDS, WARM) == first


def test_responses_of_one_prompt_differ_and_so_do_seeds(model: Any) -> None:
    first, second = run(model, PROMPTS[:1], [1], WARM), run(model, PROMPTS[:1], [2], WARM)
    assert len({tuple(tokens) for tokens in first + second}) == 6


def test_a_response_ends_with_its_stop_token_and_the_others_go_on(model: Any) -> None:
    free = run(model, PROMPTS, SEEDS, WARM, stop_ids=())
    stops = (free[0][3], free[4][7])  # tokens that surely occur
    stopped = run(model, PROMPTS, SEEDS, WARM, stop_ids=stops)
    for tokens, complete in zip(stopped, free, strict=True):
        end = next((index + 1 for index, token in enumerate(complete) if token in stops), len(complete))
        assert tokens == complete[:end]
    assert len({len(tokens) for tokens in stopped}) > 1


def test_an_end_that_is_text_stops_the_row_soon(model: Any) -> None:
    uniforms = draw_uniforms(SEEDS, 1, 20)
    ends = Ends((STOP,), lambda tokens: len(tokens) >= 5)
    assert all(5 <= len(tokens) < 20 for tokens in decode(model, PROMPTS, uniforms, WARM, ends))


def test_tokens_come_with_their_probabilities() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, float("-inf")])
    uniforms = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    tokens = choose_tokens(logits.expand(20_000, -1), uniforms, SamplingSettings(temperature=0.7))
    shares = torch.bincount(tokens, minlength=5) / 20_000
    torch.testing.assert_close(shares, torch.softmax(logits / 0.7, -1), rtol=0, atol=1e-4)


def test_the_nucleus_is_the_fewest_most_probable_tokens_that_reach_top_p() -> None:
    logits = torch.tensor([0.15, 0.4, 0.05, 0.3, 0.1]).log()
    uniforms = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    tokens = choose_tokens(logits.expand(1000, -1), uniforms, SamplingSettings(top_p=0.8))
    shares = torch.bincount(tokens, minlength=5) / 1000
    torch.testing.assert_close(shares, torch.tensor([0.15, 0.4, 0, 0.3, 0]) / 0.85, rtol=0, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16, with ties"])
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.95, 0.999])
def test_the_nucleus_of_a_large_vocabulary_is_that_of_all_tokens_sorted(
    dtype: torch.dtype, spread: float, top_p: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(6, 20_000, generator=generator) * spread).to(dtype)
    logits[0] *= 20  # rows with a narrow nucleus beside wide ones
    probabilities = torch.softmax(logits.float(), -1)
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    mass_before = ordered.cumsum(-1) - ordered
    for row, found in enumerate(sampling._nucleus(probabilities, top_p)):
        expected = order[row][mass_before[row] < top_p]
        assert torch.equal(found.nonzero()[:, 0], expected.sort().values)
        assert torch.equal(found[expected], probabilities[row][expected])


@pytest.mark.parametrize("vocabulary", [50, 20_000])
def test_logits_that_are_not_numbers_give_tokens_of_the_vocabulary(vocabulary: int) -> None:
    logits, settings = torch.full((2, vocabulary), float("nan")), SamplingSettings(top_p=0.9)
    tokens = choose_tokens(logits, torch.tensor([0.1, 0.9], dtype=torch.float64), settings)
    assert all(0 <= token < vocabulary for token in tokens.tolist())


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53], ids=["lowest", "highest"])
def test_no_uniform_falls_outside_the_vocabulary_or_on_an_impossible_token(uniform: float) -> None:
    logits = torch.tensor([[float("-inf"), 3.0, 2.0, float("-inf")]])
    token = choose_tokens(logits, torch.tensor([uniform], dtype=torch.float64), SamplingSettings())
    assert token.item() in (1, 2)


def test_uniforms_belong_to_the_prompts_seed() -> None:
    together, alone = draw_uniforms([3, 4], 2, 5), draw_uniforms([4], 2, 5)
    assert together.shape == (4, 5)
    assert torch.equal(together[2:], alone)
