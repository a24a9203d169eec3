"""Estimates before anything is spent, against arithmetic by hand, known sizes and the documents that print them."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cyclealign.estimate import MachineEstimate, estimate_calls, estimate_machine, home_bytes
from cyclealign.model_sizes import parameter_count
from cyclealign.profiles import resolve
from cyclealign.settings import Settings
from tasks.context import load_settings

ROOT = Path(__file__).parent.parent
SEVEN_BILLION = 6_738_000_000
PAPER: dict[str, Any] = {
    "data": {"source": "hub", "prompts": 1000},
    "white_box": {"model": "huggyllama/llama-7b"},
    "black_box": {"model": "gpt-3.5-turbo"},
}
OASST = {"reward_model": "oasst"}
LATER = {**OASST, "score_during_training": False}
OF_UNKNOWN_SIZE = {"reward_model": "classifier", "reward_model_name": "somebody/reward-model"}
OASST_GIB = 6.9e9 * 4 / 2**30
TOKEN = 2 * 32 * 4096 * 2 / 2**30
"""GiB of a token's keys and values in a 7B Llama, 16 bits: 0.5 MiB."""


def settings(**changes: Any) -> Settings:
    return resolve("paper", PAPER, changes)


def machine(device: str = "a100", **changes: Any) -> MachineEstimate:
    """Without a reward model, unless the changes have one."""
    return estimate_machine(settings(**{"evaluation": OF_UNKNOWN_SIZE, **changes}), SEVEN_BILLION, device)


def memory(**changes: Any) -> dict[str, float]:
    return dict(machine(**changes).memory_by_phase)


def hours(device: str = "a100", **changes: Any) -> dict[str, float]:
    return dict(machine(device, **{"evaluation": {}, **changes}).hours_by_part)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("huggyllama/llama-7b", 7_000_000_000),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 135_000_000),
        ("world", 1_000_000),
        ("models/my-model", None),
        ("gpt2", None),
    ],
)
def test_a_models_name_states_its_parameters(model: str, parameters: int | None) -> None:
    assert parameter_count(model) == parameters


def test_calls_lie_between_one_and_all_rounds_of_every_prompt_at_the_price_of_each() -> None:
    found = estimate_calls(settings(), 650)
    assert (found.calls_low, found.calls_high) == (1000, 5000)
    assert found.completion_tokens == 5000 * (128 + 8 * 3)
    expected = (found.prompt_tokens * Decimal("0.5") + found.completion_tokens * Decimal("1.5")) / 1_000_000
    assert found.usd == pytest.approx(expected, abs=Decimal("0.001"))
    assert estimate_calls(settings(black_box={"model": "unheard-of"}), 650).usd is None
    assert estimate_calls(settings(black_box={"endpoint": "preference"}), 650).usd == 0
    shown = [{"demonstration_capacity": 6}, {}, {"icl": "static"}, {"icl": "off"}, {"icl": "off", "candidates": 2}]
    tokens = [estimate_calls(settings(method=method), 650).prompt_tokens for method in shown]
    assert tokens == sorted(set(tokens), reverse=True)


def test_a_reward_model_comes_beside_the_white_box_or_after_it() -> None:
    beside, after, held_out_alone, half = (
        machine(evaluation=one)
        for one in (OASST, LATER, {**OASST, "score_candidates": False}, {**LATER, "reward_model": "classifier"})
    )
    assert beside.memory_gib == pytest.approx(machine().memory_gib + OASST_GIB)
    assert beside.disk_gib == pytest.approx(machine().disk_gib + OASST_GIB)
    assert after.memory_gib == after.memory_by_phase["rewards"] == pytest.approx(OASST_GIB)
    assert held_out_alone.memory_by_phase == after.memory_by_phase
    assert half.memory_by_phase["rewards"] == pytest.approx(OASST_GIB / 2)  # 16 bits instead of float32


def test_ranks_share_time_and_the_cache_and_under_zero_3_the_weights() -> None:
    training = {"wave": 8, "prompts_per_optimizer_step": 4}
    zero_3 = {**training, "engine": "deepspeed", "zero_stage": 3}
    one, four, apart = (
        machine(training=chosen) for chosen in (training, training | {"ranks": 4}, zero_3 | {"ranks": 4})
    )
    assert four.hours < apart.hours < one.hours
    assert apart.memory_gib < four.memory_gib < one.memory_gib
    assert four.device == f"4 ranks, each {one.device}"
    alone, shared = (memory(training={"wave": 16, "ranks": ranks}) for ranks in (1, 5))
    assert alone["sampling"] - shared["sampling"] == pytest.approx((16 - 4) * 3 * 512 * TOKEN)


def test_sampling_holds_the_keys_and_values_of_all_rows_at_their_full_length() -> None:
    one, sixteen = (memory(training={"wave": wave}) for wave in (1, 16))
    assert sixteen["sampling"] - one["sampling"] == pytest.approx(15 * 3 * 512 * TOKEN)
    assert sixteen["training"] == one["training"]
    small, large = (memory(evaluation={**OF_UNKNOWN_SIZE, "batch": batch}) for batch in (8, 40))
    assert large["held-out responses"] - small["held-out responses"] == pytest.approx(32 * 512 * TOKEN)


def test_compiled_passes_keep_two_caches_in_every_phase_and_a_server_takes_no_memory() -> None:
    usual, compiled, server = (
        memory(training={"wave": 16}, white_box={"sampling": {"engine": one}})
        for one in ("transformers", "compiled", "vllm")
    )
    static, prompts = 2 * 48 * 512 * TOKEN, 16 * (512 - 128) * TOKEN
    assert compiled["training"] - usual["training"] == pytest.approx(static)
    assert compiled["sampling"] - usual["sampling"] == pytest.approx(static / 2 + prompts)
    assert "sampling" not in server


def test_the_home_holds_a_few_checkpoints_of_the_adapter_however_many_are_written() -> None:
    rest, every_linear_map = home_bytes(settings(), None), home_bytes(settings(), SEVEN_BILLION)
    assert rest == 3 * 5000 * 12_000 + 64 * 2**20  # 5000 rounds in the ledger and two copies; 64 MiB besides
    # 2 · 32 layers · 4096 wide · 19 widths · rank 8 / 2 parameters of 12 bytes, four times
    assert every_linear_map - rest == 4 * (32 * 4096 * 19 * 8) * 12
    two = home_bytes(settings(white_box={"lora": {"target_modules": ["q_proj", "v_proj"]}}), SEVEN_BILLION)
    assert two - rest == 4 * 32 * 8 * 2 * (4096 + 4096) * 12
    assert home_bytes(settings(training={"checkpoint_every": 1}), SEVEN_BILLION) == every_linear_map


def test_an_optimizer_step_is_trained_in_passes_of_1024_tokens() -> None:
    short = {"max_length": 160, "sampling": {"max_new_tokens": 32}}  # 128 + 4 · 32 tokens: four examples fit

    def training(size: int, white_box: dict[str, Any]) -> float:
        chosen = {"wave": 16, "prompts_per_optimizer_step": size}
        return memory(white_box=white_box, training=chosen)["training"]

    assert training(16, {}) == training(1, {})  # 384 + 4 · 128 tokens: a second one does not fit
    assert training(1, short) < training(4, short) == training(16, short)
    with_it, without = (memory(training={"gradient_checkpointing": one}) for one in (True, False))
    assert with_it["training"] < without["training"]
    assert with_it["sampling"] == without["sampling"]


def test_quantisation_shrinks_the_linear_layers_in_memory_and_nothing_on_disk() -> None:
    whole, quantised = (machine(white_box={"quantization": one}) for one in ("none", "nf4"))
    # all weights but embedding and head, 2 · 50,000 · 4096: 16 bits become 4, and 8 + 32/256 for every 64
    linear = SEVEN_BILLION - 2 * 50_000 * 4096
    saved = linear * (16 - (4 + (8 + 32 / 256) / 64)) / 8
    assert whole.memory_gib - quantised.memory_gib == pytest.approx(saved / 2**30)
    assert quantised.disk_gib == whole.disk_gib


def test_a_faster_device_and_larger_waves_save_hours_of_reading_weights() -> None:
    slow = hours()
    assert all(fast < slow[part] for part, fast in hours("h200").items())
    small, large = (hours("h200", training={"wave": wave})["cycle"] for wave in (64, 128))
    # 128 tokens of 5000 rounds at 60 % of 4.8 TB/s; each row's cache is read in both
    saved = 5000 * 128 * SEVEN_BILLION * 2 * (1 / 64 - 1 / 128) / (0.6 * 4.8e12)
    assert small - large == pytest.approx(saved / 3600)


def test_rewards_are_a_pass_over_every_candidate_and_held_out_response_in_float32() -> None:
    held_out, each = 2 * (2312 + 2354 + 1137 + 2749), 2 * 6.9e9 * 512 / (0.6 * 19.5e12) / 3600
    assert hours(evaluation=OASST)["rewards"] == pytest.approx((1000 * 5 * 3 + held_out) * each)
    assert hours(evaluation={**OASST, "score_candidates": False})["rewards"] == pytest.approx(held_out * each)
    assert "rewards" not in hours(evaluation=OF_UNKNOWN_SIZE)


def of_the_paper(prompts: int, wave: int, **white_box: Any) -> MachineEstimate:
    overrides = {"data": {"prompts": prompts}, "training": {"wave": wave}, "white_box": white_box}
    return estimate_machine(load_settings("paper-llama-7b-pro", overrides), 7_000_000_000)


def test_the_scaling_page_and_the_readme_say_what_the_command_prints() -> None:
    lines = (ROOT / "docs" / "scaling.md").read_text().splitlines()
    table = {line.split("|")[1].strip(): line.split("|")[2:5] for line in lines if line.startswith("| ")}
    for column, prompts in enumerate((1_000, 10_000, 169_550)):
        one, sixteen = (of_the_paper(prompts, wave) for wave in (1, 16))
        figures = {
            "A100-40GB hours of the cycle, W = 1 as in the paper": one.hours_by_part["cycle"],
            "the same, W = 16": sixteen.hours_by_part["cycle"],
            "hours of the held-out responses": one.hours_by_part["held-out responses"],
            "hours of the rewards": one.hours_by_part["rewards"],
            "disk with both models' weights and checkpoints, GiB": one.disk_gib,
            "GPU memory, W = 1, GiB": one.memory_gib,
            "GPU memory, W = 16, GiB": sixteen.memory_gib,
        }
        assert {row: table[row][column].strip() for row in figures} == {k: f"{v:,.1f}" for k, v in figures.items()}
    small, large = (of_the_paper(1000, 1, quantization=one).memory_by_phase for one in ("nf4", "none"))
    saved = " instead of ".join(f"{max(one['sampling'], one['training']):.1f}" for one in (small, large))
    assert f"{saved} GiB for the cycle" in (ROOT / "README.md").read_text()
