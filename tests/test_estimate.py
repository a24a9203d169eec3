"""Estimates before anything is spent, against arithmetic by hand and against known sizes."""

from decimal import Decimal
from typing import Any

import pytest

from cyclealign.estimate import estimate_calls, estimate_machine, home_bytes
from cyclealign.model_sizes import parameter_count, shape
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


OASST = {"reward_model": "oasst"}
LATER = {**OASST, "score_during_training": False}
OF_UNKNOWN_SIZE = {"reward_model": "classifier", "reward_model_name": "somebody/reward-model"}
TOKEN = 2 * 32 * 4096 * 2
"""Bytes of a token's keys and values in a 7B Llama, 16 bits: 0.5 MiB."""


def memory(**changes: Any) -> dict[str, float]:
    """GiB by phase on one A100, without a reward model."""
    found = estimate_machine(settings(**{"evaluation": OF_UNKNOWN_SIZE, **changes}), SEVEN_BILLION)
    return dict(found.memory_by_phase)


def hours(device: str = "a100", **changes: Any) -> dict[str, float]:
    return dict(estimate_machine(settings(**changes), SEVEN_BILLION, device).hours_by_part)


def test_a_reward_model_comes_beside_the_white_box_or_after_it() -> None:
    beside, after, none = (
        estimate_machine(settings(evaluation=one), SEVEN_BILLION) for one in (OASST, LATER, OF_UNKNOWN_SIZE)
    )
    oasst = 6.9e9 * 4 / 2**30
    assert beside.memory_gib == pytest.approx(none.memory_gib + oasst)
    assert after.memory_gib == after.memory_by_phase["rewards"] == pytest.approx(oasst)
    held_out_alone = estimate_machine(settings(evaluation={**OASST, "score_candidates": False}), SEVEN_BILLION)
    assert held_out_alone.memory_by_phase == after.memory_by_phase
    assert beside.disk_gib == pytest.approx(none.disk_gib + oasst)


def test_a_classifier_is_half_as_large_on_a_gpu_as_openassistants_model_in_float32() -> None:
    whole, half = (
        estimate_machine(settings(evaluation={**LATER, "reward_model": one}), SEVEN_BILLION).memory_by_phase
        for one in ("oasst", "classifier")
    )
    assert half["rewards"] == pytest.approx(whole["rewards"] / 2)


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


def test_sampling_holds_the_keys_and_values_of_a_waves_responses_at_their_full_length() -> None:
    one, sixteen = (memory(training={"wave": wave}) for wave in (1, 16))
    more = 15 * 3 * 512 * TOKEN
    assert sixteen["sampling"] - one["sampling"] == pytest.approx(more / 2**30)
    assert sixteen["training"] == one["training"]


def test_the_phase_that_takes_most_comes_first_and_is_the_estimates_memory() -> None:
    found = estimate_machine(settings(training={"wave": 64}, evaluation=LATER), SEVEN_BILLION)
    assert next(iter(found.memory_by_phase.items())) == ("sampling", found.memory_gib)
    assert {"training", "held-out responses", "rewards"} < found.memory_by_phase.keys()


def test_ranks_share_the_cache_of_a_wave() -> None:
    alone, shared = (memory(training={"wave": 16, "ranks": ranks}) for ranks in (1, 5))
    assert alone["sampling"] - shared["sampling"] == pytest.approx((16 - 4) * 3 * 512 * TOKEN / 2**30)


def test_a_batch_of_held_out_prompts_holds_a_response_each() -> None:
    small, large = (memory(evaluation={**OF_UNKNOWN_SIZE, "batch": batch}) for batch in (8, 40))
    more = large["held-out responses"] - small["held-out responses"]
    assert more == pytest.approx(32 * 512 * TOKEN / 2**30)


def test_compiled_passes_keep_two_caches_in_every_phase_and_the_prompts_own_beside_them() -> None:
    usual, compiled = (
        memory(training={"wave": 16}, white_box={"sampling": {"engine": one}}) for one in ("transformers", "compiled")
    )
    static, prompts = 2 * 48 * 512 * TOKEN, 16 * (512 - 128) * TOKEN
    assert compiled["training"] - usual["training"] == pytest.approx(static / 2**30)
    assert compiled["sampling"] - usual["sampling"] == pytest.approx((static / 2 + prompts) / 2**30)


def test_what_a_server_samples_takes_no_memory_here() -> None:
    assert "sampling" not in memory(training={"wave": 64}, white_box={"sampling": {"engine": "vllm"}})


def test_in_float32_sampling_holds_the_adapted_weights_twice() -> None:
    only_q = {"lora": {"target_modules": ["q_proj"]}, "dtype": "float32"}
    both = {"lora": {"target_modules": ["q_proj", "v_proj"]}, "dtype": "float32"}
    one, two = (memory(white_box=chosen) for chosen in (only_q, both))
    adapter = 32 * 8 * 2 * 4096 * 16
    assert two["sampling"] - one["sampling"] == pytest.approx((32 * 4096**2 * 4 + adapter) / 2**30)


def test_the_adapter_is_as_large_as_the_modules_it_sits_on() -> None:
    rest = home_bytes(settings(), None)
    two, all_linear = (
        home_bytes(settings(white_box={"lora": {"target_modules": modules}}), SEVEN_BILLION) - rest
        for modules in (["q_proj", "v_proj"], "all-linear")
    )
    # rank 8 · (inputs + outputs) of two square maps in 32 layers, 12 bytes, four times
    assert two == 4 * 32 * 8 * 2 * (4096 + 4096) * 12
    assert all_linear / two == pytest.approx(19 / 4)


def test_an_optimizer_step_is_trained_in_passes_so_that_its_examples_take_no_more_memory() -> None:
    one, sixteen = (memory(training={"wave": 16, "prompts_per_optimizer_step": size})["training"] for size in (1, 16))
    assert sixteen == one  # 384 + 4 · 128 tokens: a second example does not fit into 1024


def test_short_examples_share_a_pass() -> None:
    short = {"max_length": 160, "sampling": {"max_new_tokens": 32}}  # 128 + 4 · 32 tokens: four fit into 1024
    one, four, sixteen = (
        memory(white_box=short, training={"wave": 16, "prompts_per_optimizer_step": size})["training"]
        for size in (1, 4, 16)
    )
    assert one < four == sixteen


def test_the_home_holds_a_few_checkpoints_however_many_are_written() -> None:
    often, seldom = (home_bytes(settings(training={"checkpoint_every": every}), SEVEN_BILLION) for every in (1, 1000))
    assert often == seldom
    # 2 · 32 layers · 4096 wide · 19 widths · rank 8 / 2 parameters of 12 bytes, four times; 5000 rounds of
    # 12,000 bytes in the ledger and two copies; 64 MiB besides
    assert often == 4 * (32 * 4096 * 19 * 8) * 12 + 3 * 5000 * 12_000 + 64 * 2**20


def test_of_a_model_of_unknown_size_only_the_rest_is_counted() -> None:
    assert home_bytes(settings(), None) == 3 * 5000 * 12_000 + 64 * 2**20


def test_checkpointing_of_gradients_saves_memory_of_training_alone() -> None:
    with_it, without = (memory(training={"gradient_checkpointing": one}) for one in (True, False))
    assert with_it["training"] < without["training"]
    assert with_it["sampling"] == without["sampling"]


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
    slow = hours()
    assert all(fast < slow[part] for part, fast in hours("h200").items())
    larger = hours(training={"wave": 8})
    assert larger["cycle"] < slow["cycle"]
    assert larger["rewards"] == slow["rewards"]


def test_rewards_are_a_pass_over_every_candidate_and_held_out_response_in_float32() -> None:
    held_out = 2312 + 2354 + 1137 + 2749
    passes = 1000 * 5 * 3 + 2 * held_out
    arithmetic = passes * 2 * 6.9e9 * 512
    assert hours(evaluation=OASST)["rewards"] == pytest.approx(arithmetic / (0.6 * 19.5e12) / 3600)
    assert "rewards" not in hours(evaluation=OF_UNKNOWN_SIZE)
    without = hours(evaluation={**OASST, "score_candidates": False})["rewards"]
    assert without == pytest.approx(2 * held_out * 2 * 6.9e9 * 512 / (0.6 * 19.5e12) / 3600)


def test_held_out_responses_take_time_by_their_number_and_less_in_larger_batches() -> None:
    part = "held-out responses"
    all_, few, alone = (
        hours(evaluation=one)[part]
        for one in ({}, {"prompts_per_subset": 320}, {"prompts_per_subset": 320, "batch": 1})
    )
    assert all_ == pytest.approx(few * -(-8552 // 32) / 40)
    assert alone > 10 * few


def test_a_larger_wave_saves_reading_the_weights_and_not_the_caches() -> None:
    small, large = (hours("h200", training={"wave": wave})["cycle"] for wave in (64, 128))
    # 128 tokens of 5000 rounds at 60 % of 4.8 TB/s; each row's cache is read in both
    saved = 5000 * 128 * SEVEN_BILLION * 2 * (1 / 64 - 1 / 128) / (0.6 * 4.8e12)
    assert small - large == pytest.approx(saved / 3600)


def test_an_unknown_price_is_said_to_be_unknown() -> None:
    assert estimate_calls(settings(black_box={"model": "nobody-knows-it"}), 650).usd is None


def test_an_offline_judge_costs_nothing() -> None:
    assert estimate_calls(settings(black_box={"endpoint": "preference"}), 650).usd == 0
