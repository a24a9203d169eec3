"""Settings: one frozen object, unknown keys refused, the digest knows what influences results."""

from typing import Any

import pytest

from cyclealign.errors import ProfileInvalid
from cyclealign.profiles import completed, differences, merge, parse_overrides, resolve
from cyclealign.settings import Settings

MINIMAL: dict[str, Any] = {"data": {"source": "folder", "path": "x"}, "white_box": {"model": "m"}}


def settings(**changes: Any) -> Settings:
    return resolve("p", MINIMAL, changes)


COMPILED = {"sampling": {"engine": "compiled"}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"method": {"round": 3}}, r"method\.round: unknown key; did you mean method\.rounds\?"),
    "a second one": ({"method": {"round": 3}, "colour": "red"}, r"(?s)method\.round: .*colour: unknown key"),
    "a wrong value": ({"method": {"objective": "ppo"}}, r"method\.objective: .*'rrhf', 'pro' or 'none'.*found 'ppo'"),
    "the world's model elsewhere": ({"white_box": {"model": "world"}}, r"white_box\.model = world needs data\.source"),
    "dropout that differs between ranks": (
        {"white_box": {"lora": {"dropout": 0.1}}, "training": {"ranks": 2}},
        r"training\.ranks = 2 needs white_box\.lora\.dropout = 0",
    ),
    "no room for prompts": (
        {"white_box": {"max_length": 132}},
        r"max_length = 132 leaves 4 tokens for a prompt beside wh",
    ),
    "no room for prompts of the evaluation": (
        {"white_box": {"max_length": 200}, "evaluation": {"sampling": {"max_new_tokens": 200}}},
        r"leaves 0 tokens for a prompt beside evaluation\.sampling\.max_new_tokens",
    ),
    "compiled passes on 4 bits": ({"white_box": {**COMPILED, "quantization": "nf4"}}, "engine = compiled needs"),
    "a compiled evaluation on 4 bits": (
        {"evaluation": COMPILED, "white_box": {"quantization": "nf4"}},
        "engine = compiled needs",
    ),
    "compiled passes on parts of weights": (
        {"white_box": COMPILED, "training": {"engine": "deepspeed", "zero_stage": 3}},
        "engine = compiled needs",
    ),
    **{
        url: ({"white_box": {"vllm": {"base_url": url}}}, r"white_box\.vllm\.base_url")
        for url in ("10.0.0.7:8000", "http://user:word@host/v1", "http://host/v1?key=1", "http://")
    },
}


@pytest.mark.parametrize(("changes", "words"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_with_what_was_found_and_expected(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ProfileInvalid, match=words):
        settings(**changes)


def test_overrides_are_nested_and_typed() -> None:
    assert parse_overrides(["a.b=3", "a.c=[x, y]", "d=null"]) == {"a": {"b": 3, "c": ["x", "y"]}, "d": None}
    assert settings(**parse_overrides(["training.learning_rate=2e-5"])).training.learning_rate == 2e-5


@pytest.mark.parametrize("text", ["method.rounds", "=3", "a..b=1"])
def test_a_malformed_override_is_refused(text: str) -> None:
    with pytest.raises(ProfileInvalid, match="expected key=value"):
        parse_overrides([text])


@pytest.mark.parametrize(("wave", "examples", "idle"), [(1, 1, 3), (3, 3, 1), (8, 4, 0)])
def test_an_optimizer_step_takes_no_more_prompts_than_a_wave_has(wave: int, examples: int, idle: int) -> None:
    training = settings(training={"prompts_per_optimizer_step": 4, "wave": wave, "ranks": 4}).training
    assert (training.examples, training.idle_ranks()) == (examples, idle)


@pytest.mark.parametrize(("overlap", "stated", "questions"), [(False, None, 6), (True, None, 12), (True, 2, 2)])
def test_as_many_questions_are_open_as_stated_or_as_the_waves_have(
    overlap: bool, stated: int | None, questions: int
) -> None:
    chosen = settings(training={"wave": 6, "overlap": overlap}, black_box={"concurrency": stated})
    assert chosen.black_box_of_the_cycle().concurrency == questions


def test_lambda_follows_the_number_of_candidates() -> None:
    assert settings().method.lambda_sft == 4.0
    assert settings(method={"candidates": 4}).method.lambda_sft == 9.0


OPERATIONAL: list[dict[str, Any]] = [
    {"black_box": {"budget_usd": 5, "concurrency": 2, "price": {"input": 1, "output": 2}}},
    {"training": {"ranks": 4}},
    {"white_box": {"vllm": {"base_url": "http://10.0.0.7:8000/v1", "timeout_s": 5}}},
]
INFLUENTIAL: dict[str, dict[str, Any]] = {
    "method.rounds: 5 -> 3": {"method": {"rounds": 3}},
    "seed: 0 -> 1": {"seed": 1},
    "white_box.sampling.engine: its default -> 'vllm'": {"white_box": {"sampling": {"engine": "vllm"}}},
    "white_box.quantization: its default -> 'nf4'": {"white_box": {"quantization": "nf4"}},
}


@pytest.mark.parametrize("changes", OPERATIONAL, ids=str)
def test_the_digest_ignores_operational_settings(changes: dict[str, Any]) -> None:
    chosen = settings(**changes)
    assert chosen.digest() == settings().digest()
    assert Settings.model_validate(merge(chosen.influential(), chosen.operational())) == chosen


@pytest.mark.parametrize("difference", INFLUENTIAL)
def test_any_other_setting_changes_the_digest_and_is_named(difference: str) -> None:
    chosen = settings(**INFLUENTIAL[difference])
    assert chosen.digest() != settings().digest()
    assert differences(settings().influential(), chosen.influential()) == [difference]
    assert Settings.model_validate(merge(chosen.influential(), chosen.operational())) == chosen


def test_a_setting_that_was_added_since_a_run_was_stored_is_no_difference() -> None:
    now = settings().influential()
    stored = {**now, "method": {key: value for key, value in now["method"].items() if key != "drop_repeated"}}
    assert differences(completed(stored), now) == []
