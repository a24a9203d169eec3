"""Estimates before anything is spent, against arithmetic by hand and against known sizes."""

from decimal import Decimal
from typing import Any

import pytest

from cyclealign.estimate import estimate_calls, estimate_machine, home_bytes, parameter_count, shape
from cyclealign.profiles import resolve
from cyclealign.settings import Settings

SEVEN_BILLION = 6_738_000_000
PAPER: dict[str, Any] = {
    "data": {"source": "hub", "prompts": 1000},
    "white_box": {"model": "huggyllama/llama-7b"},
    "black_box": {"model": "gpt-3.5-turbo"},
}


def settings(**changes: Any) -> Settings:
    return resolve("paper", PAPER, changes)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("huggyllama/llama-7b", 7_000_000_000),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 135_000_000),
        ("Qwen/Qwen2.5-1.5B-Instruct", 1_500_000_000),
        ("world", 1_000_000),
        ("models/my-model", None),
        ("gpt2", None),
    ],
)
def test_a_models_name_states_its_parameters(model: str, parameters: int | None) -> None:
    assert parameter_count(model) == parameters


def test_the_shape_of_a_7b_llama_is_guessed_right() -> None:
    layers, width = shape(SEVEN_BILLION)
    assert (layers, width) == (32, 4096)


def test_calls_lie_between_one_and_all_rounds_of_every_prompt() -> None:
    found = estimate_calls(settings(), 650)
    assert (found.calls_low, found.calls_high) == (1000, 5000)
    assert found.completion_tokens == 5000 * (128 + 8 * 3)


def test_the_price_is_that_of_each_call_times_the_calls() -> None:
    found = estimate_calls(settings(), 650)
    expected = (found.prompt_tokens * Decimal("0.5") + found.completion_tokens * Decimal("1.5")) / 1_000_000
    assert found.usd == pytest.approx(expected, abs=Decimal("0.001"))


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ({"icl": "full"}, {"icl": "static"}),
        ({"icl": "static"}, {"icl": "off"}),
        ({"demonstration_capacity": 6}, {"demonstration_capacity": 5}),
        ({"candidates": 4}, {"candidates": 3}),
        ({"rewrite": "head"}, {"rewrite": "off"}),
    ],
    ids=str,
)
def test_what_the_prompt_shows_costs_tokens(more: dict[str, Any], less: dict[str, Any]) -> None:
    dear, cheap = (estimate_calls(settings(method=method), 650) for method in (more, less))
    assert dear.prompt_tokens > cheap.prompt_tokens


LATER = {"score_during_training": False}
OF_UNKNOWN_SIZE = {"reward_model": "classifier", "reward_model_name": "somebody/reward-model"}


def test_a_reward_model_comes_beside_the_white_box_or_after_it() -> None:
    beside, after, none = (
        estimate_machine(settings(evaluation=one), SEVEN_BILLION) for one in ({}, LATER, OF_UNKNOWN_SIZE)
    )
    oasst = 6.9e9 * 4 / 2**30
    assert beside.memory_gib == pytest.approx(none.memory_gib + oasst)
    assert after.memory_gib == pytest.approx(oasst)
    assert beside.disk_gib == pytest.approx(none.disk_gib + oasst)


def test_ranks_share_time_and_under_zero_3_the_weights() -> None:
    training = {"wave": 8, "prompts_per_optimizer_step": 4}
    zero_3 = {**training, "engine": "deepspeed", "zero_stage": 3}
    one, four, apart = (
        estimate_machine(settings(training=chosen, evaluation=OF_UNKNOWN_SIZE), SEVEN_BILLION)
        for chosen in (training, {**training, "ranks": 4}, {**zero_3, "ranks": 4})
    )
    assert four.hours < apart.hours < one.hours
    assert apart.memory_gib < four.memory_gib < one.memory_gib
    assert four.device == f"4 ranks, each {one.device}"


def test_a_7b_model_needs_more_than_its_weights_and_fits_the_papers_gpu() -> None:
    found = estimate_machine(settings(evaluation=LATER), SEVEN_BILLION, "a100")
    assert SEVEN_BILLION * 2 / 2**30 < found.memory_gib < 40
    assert found.disk_gib > SEVEN_BILLION * 2 / 2**30


def test_the_home_holds_a_few_checkpoints_however_many_are_written() -> None:
    often, seldom = (
        home_bytes(settings(training={"checkpoint_every": every}), SEVEN_BILLION) for every in (1, 1000)
    )
    assert often == seldom
    # 2 · 32 layers · 4096 wide · 19 widths · rank 8 / 2 parameters of 12 bytes, four times; 5000 rounds of
    # 12,000 bytes in the ledger and two copies; 64 MiB besides
    assert often == 4 * (32 * 4096 * 19 * 8) * 12 + 3 * 5000 * 12_000 + 64 * 2**20


def test_of_a_model_of_unknown_size_only_the_rest_is_counted() -> None:
    assert home_bytes(settings(), None) == 3 * 5000 * 12_000 + 64 * 2**20


def test_checkpointing_of_gradients_saves_memory() -> None:
    with_it = estimate_machine(settings(training={"gradient_checkpointing": True}), SEVEN_BILLION)
    assert with_it.memory_gib < estimate_machine(settings(), SEVEN_BILLION).memory_gib


def test_quantisation_shrinks_the_linear_layers_in_memory_and_nothing_on_disk() -> None:
    whole, quantised = (
        estimate_machine(settings(white_box={"quantization": one}, evaluation=OF_UNKNOWN_SIZE), SEVEN_BILLION)
        for one in ("none", "nf4")
    )
    # all weights but embedding and head, 2 · 50,000 · 4096: 16 bits become 4, and 8 + 32/256 for every 64
    linear = SEVEN_BILLION - 2 * 50_000 * 4096
    saved = linear * (16 - (4 + (8 + 32 / 256) / 64)) / 8
    assert whole.memory_gib - quantised.memory_gib == pytest.approx(saved / 2**30)
    assert quantised.disk_gib == whole.disk_gib


def test_a_faster_device_and_larger_waves_save_hours() -> None:
    hours = estimate_machine(settings(), SEVEN_BILLION, "a100").hours
    assert estimate_machine(settings(), SEVEN_BILLION, "h200").hours < hours
    assert estimate_machine(settings(training={"wave": 8}), SEVEN_BILLION, "a100").hours < hours


def test_an_unknown_price_is_said_to_be_unknown() -> None:
    assert estimate_calls(settings(black_box={"model": "nobody-knows-it"}), 650).usd is None


def test_an_offline_judge_costs_nothing() -> None:
    assert estimate_calls(settings(black_box={"endpoint": "preference"}), 650).usd == 0
