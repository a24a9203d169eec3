"""Settings: one frozen object, unknown keys refused, the digest knows what influences results."""

from typing import Any

import pytest

from cyclealign.errors import ProfileInvalid
from cyclealign.profiles import completed, differences, merge, parse_overrides, resolve
from cyclealign.settings import Settings

MINIMAL: dict[str, Any] = {"data": {"source": "folder", "path": "x"}, "white_box": {"model": "m"}}


def test_unknown_keys_are_errors_that_name_every_one() -> None:
    with pytest.raises(ProfileInvalid, match=r"method\.round: unknown key") as error:
        resolve("p", MINIMAL, {"method": {"round": 3}, "colour": "red"})
    assert "colour: unknown key" in str(error.value)


def test_wrong_values_say_what_was_expected_and_found() -> None:
    with pytest.raises(ProfileInvalid, match=r"method\.objective: .*'rrhf', 'pro' or 'none'.*found 'ppo'"):
        resolve("p", MINIMAL, {"method": {"objective": "ppo"}})


def test_overrides_are_nested_and_typed() -> None:
    assert parse_overrides(["a.b=3", "a.c=[x, y]", "d=null", "e=2e-5"]) == {
        "a": {"b": 3, "c": ["x", "y"]},
        "d": None,
        "e": "2e-5",
    }


@pytest.mark.parametrize("text", ["method.rounds", "=3", "a..b=1"])
def test_a_malformed_override_is_refused(text: str) -> None:
    with pytest.raises(ProfileInvalid, match="expected key=value"):
        parse_overrides([text])


@pytest.mark.parametrize(("wave", "examples", "idle"), [(1, 1, 3), (3, 3, 1), (8, 4, 0)])
def test_an_optimizer_step_takes_no_more_prompts_than_a_wave_has(wave: int, examples: int, idle: int) -> None:
    training = resolve("p", MINIMAL, {"training": {"prompts_per_optimizer_step": 4, "wave": wave, "ranks": 4}}).training
    assert (training.examples, training.idle_ranks()) == (examples, idle)


@pytest.mark.parametrize(("overlap", "questions"), [(False, 6), (True, 12)])
def test_as_many_questions_are_open_as_the_waves_under_way_have_prompts(overlap: bool, questions: int) -> None:
    settings = resolve("p", MINIMAL, {"training": {"wave": 6, "overlap": overlap}})
    assert settings.black_box_of_the_cycle().concurrency == questions


def test_a_number_of_calls_at_once_is_kept() -> None:
    settings = resolve("p", MINIMAL, {"training": {"wave": 6}, "black_box": {"concurrency": 2}})
    assert settings.black_box_of_the_cycle().concurrency == 2


def test_numbers_in_overrides_may_use_exponents() -> None:
    settings = resolve("p", MINIMAL, parse_overrides(["training.learning_rate=2e-5"]))
    assert settings.training.learning_rate == 2e-5


def test_digest_ignores_operational_settings_and_nothing_else() -> None:
    base = resolve("p", MINIMAL, {})
    same = resolve("p", MINIMAL, {"black_box": {"budget_usd": 5, "concurrency": 2}})
    other = resolve("p", MINIMAL, {"method": {"rounds": 3}})
    assert base.digest() == same.digest() != other.digest()


def test_the_number_of_ranks_may_change_between_resumptions() -> None:
    assert resolve("p", MINIMAL, {"training": {"ranks": 4}}).digest() == resolve("p", MINIMAL, {}).digest()


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"sampling": {"engine": "vllm"}}, "white_box.sampling.engine: its default -> 'vllm'"),
        ({"quantization": "nf4"}, "white_box.quantization: its default -> 'nf4'"),
    ],
)
def test_a_setting_that_was_added_later_is_in_the_digest_when_it_is_not_at_its_default(
    changed: dict[str, Any], difference: str
) -> None:
    before, now = resolve("p", MINIMAL, {}), resolve("p", MINIMAL, {"white_box": changed})
    assert now.digest() != before.digest()
    assert differences(before.influential(), now.influential()) == [difference]
    assert Settings.model_validate(merge(now.influential(), now.operational())) == now


def test_where_a_server_is_influences_nothing() -> None:
    elsewhere = {"white_box": {"vllm": {"base_url": "http://10.0.0.7:8000/v1", "timeout_s": 5}}}
    assert resolve("p", MINIMAL, elsewhere).digest() == resolve("p", MINIMAL, {}).digest()


@pytest.mark.parametrize("url", ["10.0.0.7:8000", "http://user:word@host/v1", "http://host/v1?key=1", "http://"])
def test_the_address_of_a_server_is_plain(url: str) -> None:
    with pytest.raises(ProfileInvalid, match=r"white_box\.vllm\.base_url"):
        resolve("p", MINIMAL, {"white_box": {"vllm": {"base_url": url}}})


def test_several_ranks_refuse_dropout_which_would_make_results_depend_on_them() -> None:
    dropout = {"white_box": {"lora": {"dropout": 0.1}}}
    assert resolve("p", MINIMAL, dropout).training.ranks == 1
    with pytest.raises(ProfileInvalid, match=r"training\.ranks = 2 needs white_box\.lora\.dropout = 0"):
        resolve("p", MINIMAL, merge(dropout, {"training": {"ranks": 2}}))


@pytest.mark.parametrize(
    "changes",
    [
        {"white_box": {"sampling": {"engine": "compiled"}, "quantization": "nf4"}},
        {"evaluation": {"sampling": {"engine": "compiled"}}, "white_box": {"quantization": "nf4"}},
        {"white_box": {"sampling": {"engine": "compiled"}}, "training": {"engine": "deepspeed", "zero_stage": 3}},
    ],
    ids=["nf4", "nf4 evaluation", "zero-3"],
)
def test_compiled_passes_refuse_weights_that_are_not_whole(changes: dict[str, Any]) -> None:
    with pytest.raises(ProfileInvalid, match=r"sampling\.engine = compiled needs"):
        resolve("p", MINIMAL, changes)


def test_differences_name_key_and_both_values() -> None:
    before, after = resolve("p", MINIMAL, {}), resolve("p", MINIMAL, {"method": {"rounds": 3}, "seed": 1})
    assert differences(before.influential(), after.influential()) == ["method.rounds: 5 -> 3", "seed: 0 -> 1"]


def test_a_setting_that_was_added_since_a_run_was_stored_is_no_difference() -> None:
    now = resolve("p", MINIMAL, {}).influential()
    stored = {**now, "method": {key: value for key, value in now["method"].items() if key != "drop_repeated"}}
    assert differences(completed(stored), now) == []


def test_world_parts_need_the_world() -> None:
    with pytest.raises(ProfileInvalid, match=r"white_box\.model = world needs data\.source = world"):
        resolve("p", MINIMAL, {"white_box": {"model": "world"}})


def test_lambda_follows_the_number_of_candidates() -> None:
    assert resolve("p", MINIMAL, {}).method.lambda_sft == 4.0
    assert resolve("p", MINIMAL, {"method": {"candidates": 4}}).method.lambda_sft == 9.0


def test_influential_and_operational_settings_together_are_the_settings() -> None:
    settings = resolve("p", MINIMAL, {"black_box": {"budget_usd": 5, "price": {"input": 1, "output": 2}}})
    assert Settings.model_validate(merge(settings.influential(), settings.operational())) == settings
