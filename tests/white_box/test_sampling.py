"""Sampling: what is drawn from what randomness, by growing, repeated and compiled passes; neighbours do not matter.

Torch traces compiled passes as for a GPU; here they run as they were traced, because generating machine code takes
longer than all else, except in one test.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    CompileConfig,
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

from cyclealign.errors import ModelError
from cyclealign.settings import SamplingSettings
from cyclealign.white_box import sampling
from cyclealign.white_box.loading import quiet_transformers
from cyclealign.white_box.sampling import CompiledSteps, Ends, choose_tokens, decode, draw_uniforms
from tests.tiny_llama import save_llama, save_tiny_llama
from tests.white_box import boxes

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [50, 51], [90, 91, 92, 93]]
SEEDS = [11, 12, 13]
WARM = SamplingSettings(temperature=1.0, max_new_tokens=12)
GREEDY = SamplingSettings(temperature=0, max_new_tokens=12)
COMPILED = SamplingSettings(max_new_tokens=8, engine="compiled")
TIE = {torch.float32: 0.0, torch.bfloat16: 0.1}
"""Nats between two tokens that rounding may swap: in bfloat16, logits of 4 to 8 are multiples of 2^-5."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("model") / "tiny-llama")


@pytest.fixture
def model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def run(
    model: Any,
    prompts: Sequence[Sequence[int]] = PROMPTS,
    seeds: Sequence[int] = SEEDS,
    settings: SamplingSettings = WARM,
    *,
    responses: int = 3,
    stop_ids: tuple[int, ...] = (),
) -> list[list[int]]:
    uniforms = draw_uniforms(seeds, responses, settings.max_new_tokens)
    return decode(model, prompts, uniforms, settings, Ends(stop_ids, lambda _: False))


@pytest.mark.parametrize("dtype", TIE, ids=str)
def test_greedy_tokens_are_those_of_generate_up_to_a_tie(model: Any, dtype: torch.dtype) -> None:
    ours = run(model.to(dtype), settings=GREEDY, responses=1, stop_ids=(1,))
    for prompt, tokens in zip(PROMPTS, ours, strict=True):
        theirs = model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=1, pad_token_id=0
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


def test_what_a_prompt_gets_depends_on_its_seed_and_not_on_the_prompts_beside_it(model: Any) -> None:
    together = run(model)
    alone = [tokens for prompt, seed in zip(PROMPTS, SEEDS, strict=True) for tokens in run(model, [prompt], [seed])]
    reverse = run(model, PROMPTS[::-1], SEEDS[::-1])
    assert together == alone == [*reverse[6:], *reverse[3:6], *reverse[:3]]
    assert len({tuple(tokens) for seed in (1, 2) for tokens in run(model, PROMPTS[:1], [seed])}) == 6


def test_the_global_random_state_neither_matters_nor_changes(model: Any) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = run(model)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert run(model) == first


def test_a_response_ends_with_its_stop_token_and_the_others_go_on(model: Any) -> None:
    free = run(model)
    stops = (free[0][3], free[4][7])  # tokens that surely occur
    stopped = run(model, stop_ids=stops)
    for tokens, complete in zip(stopped, free, strict=True):
        end = next((index + 1 for index, token in enumerate(complete) if token in stops), len(complete))
        assert tokens == complete[:end]
    assert len({len(tokens) for tokens in stopped}) > 1


def test_an_end_that_is_text_stops_the_row_soon(model: Any) -> None:
    ends = Ends((), lambda tokens: len(tokens) >= 5)
    assert all(5 <= len(tokens) < 12 for tokens in decode(model, PROMPTS, draw_uniforms(SEEDS, 1, 12), WARM, ends))


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
@pytest.mark.parametrize("spread", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("top_p", [0.01, 0.95, 0.999])
def test_the_nucleus_of_a_large_vocabulary_is_that_of_all_tokens_sorted(
    dtype: torch.dtype, spread: float, top_p: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(4, 20_000, generator=generator) * spread).to(dtype)
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


SIZES: dict[str, Any] = {"vocab_size": 100, "hidden_size": 16, "num_hidden_layers": 2, "initializer_range": 0.4}
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32}
LINEAR: dict[str, Any] = {f"linear_{kind}": 2 for kind in ("num_key_heads", "num_value_heads")}
LINEAR |= {f"linear_{kind}": 8 for kind in ("key_head_dim", "value_head_dim")} | {"head_dim": 8}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
RECURRENT: dict[str, tuple[type[nn.Module], Any]] = {
    "state space": (MambaForCausalLM, MambaConfig(**SIZES, state_size=4, pad_token_id=0)),
    "convolutions and attention": (
        Lfm2ForCausalLM,
        Lfm2Config(**SIZES, **HEADS, pad_token_id=0, layer_types=["conv", "full_attention"]),
    ),
    "linear and full attention": (
        Qwen3NextForCausalLM,
        Qwen3NextConfig(
            **{**SIZES, **HEADS, **LINEAR, **EXPERTS},
            pad_token_id=0,
            shared_expert_intermediate_size=16,
            layer_types=["linear_attention", "full_attention"],
        ),
    ),
}


@torch.no_grad()
def one_after_another(model: nn.Module, prompt: list[int], seed: int) -> list[list[int]]:
    """Sampled without any cache: the whole text is computed anew for every token."""
    rows = []
    for uniforms in draw_uniforms([seed], 3, WARM.max_new_tokens):
        tokens = list(prompt)
        for uniform in uniforms:
            logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[:, -1]
            tokens.append(int(choose_tokens(logits, uniform[None], WARM)))
        rows.append(tokens[len(prompt) :])
    return rows


@pytest.mark.parametrize("name", RECURRENT)
def test_a_model_whose_cache_cannot_be_spread_samples_as_if_the_whole_text_was_computed_anew(name: str) -> None:
    kind, config = RECURRENT[name]
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(0)
        model = kind(config).eval()
    expected = [row for at in (0, 1) for row in one_after_another(model, PROMPTS[at], SEEDS[at])]
    with pytest.warns(UserWarning, match="cannot be spread over responses"):
        assert run(model, PROMPTS[:2], SEEDS[:2]) == expected
        stop = expected[0][2]
        stopped = run(model, PROMPTS[:2], SEEDS[:2], stop_ids=(stop,))
    assert stopped == [row[: row.index(stop) + 1] if stop in row else row for row in expected]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch._dynamo.reset()
    monkeypatch.setattr(sampling, "COMPILATION", CompileConfig(backend="eager", mode=None))
    yield
    torch._dynamo.reset()


def test_compiled_passes_give_the_tokens_of_growing_ones_whatever_was_sampled_before(traced: None, model: Any) -> None:
    steps, groups = CompiledSteps(model), (PROMPTS, [list(range(2, 120))], [[5], [6, 7]])
    for prompts in (*groups, *groups[::-1]):
        seeds = range(len(prompts))
        stop = run(model, prompts, seeds)[0][3]
        expected = run(model, prompts, seeds, stop_ids=(stop,))
        assert run(steps, prompts, seeds, stop_ids=(stop,)) == expected
        assert len({len(tokens) for tokens in expected}) > 1, "some end before others"


def test_the_machine_code_of_this_device_gives_them_too(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(save_llama(tmp_path, num_hidden_layers=1)).eval()
    assert run(CompiledSteps(model), responses=2) == run(model, responses=2)
    torch._dynamo.reset()


def test_a_white_box_samples_with_its_newest_adapter_through_compiled_passes(traced: None, folder: Path) -> None:
    white_box, plain = boxes.load(folder), COMPILED.model_copy(update={"engine": "transformers"})
    seen = []
    for step in range(2):
        seen.append(white_box.sample(boxes.PROMPTS, [1, 2, 3], 3, COMPILED))
        assert seen[-1] == white_box.sample(boxes.PROMPTS, [1, 2, 3], 3, plain)
        boxes.train(white_box, range(step, step + 1))
    assert seen[0] != seen[1]


def test_a_machine_that_cannot_compile_ends_in_an_error_that_says_what_is_missing(
    traced: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("no compiler found")

    monkeypatch.setattr(sampling, "COMPILATION", CompileConfig(backend=failing, mode=None))
    with pytest.raises(ModelError, match=r"no compiler found.* set sampling\.engine=transformers"):
        boxes.load(folder).sample(boxes.PROMPTS, [1, 2, 3], 2, COMPILED)


def test_windows_cannot_be_compiled() -> None:
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, **HEADS}
    windows, none = (MistralForCausalLM(MistralConfig(sliding_window=window, **sizes)) for window in (8, None))
    assert CompiledSteps.of(none, "mistral", packed=True) is not None
    with pytest.warns(UserWarning, match="mistral cannot be sampled from with compiled passes"):
        assert CompiledSteps.of(windows, "mistral", packed=True) is None


def test_a_white_box_that_cannot_have_compiled_passes_warns_and_samples_without(folder: Path) -> None:
    white_box = boxes.load(folder)
    white_box._scores.packed = False
    plain = white_box.sample(boxes.PROMPTS, [1, 2, 3], 2, COMPILED.model_copy(update={"engine": "transformers"}))
    with pytest.warns(UserWarning, match="cannot be sampled from with compiled passes"):
        assert white_box.sample(boxes.PROMPTS, [1, 2, 3], 2, COMPILED) == plain
