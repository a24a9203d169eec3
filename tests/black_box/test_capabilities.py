"""Which parameters are sent to which model."""

from typing import Any

import pytest

from cyclealign.black_box.capabilities import capabilities_of, parameters_for
from cyclealign.errors import UsageError
from cyclealign.settings import BlackBoxSettings


@pytest.mark.parametrize(
    ("model", "family", "limit"),
    [
        ("gpt-3.5-turbo", "any other server of the protocol", "max_tokens"),
        ("gpt-4", "GPT-4, 2023", "max_tokens"),
        ("gpt-4-0613", "GPT-4, 2023", "max_tokens"),
        ("gpt-4-turbo", "any other server of the protocol", "max_tokens"),
        ("gpt-4o-mini", "GPT-4o and GPT-4.1", "max_completion_tokens"),
        ("gpt-4.1-mini", "GPT-4o and GPT-4.1", "max_completion_tokens"),
        ("gpt-5", "GPT-5", "max_completion_tokens"),
        ("gpt-5-mini-2025-08-07", "GPT-5", "max_completion_tokens"),
        ("gpt-5-chat-latest", "GPT-5 chat", "max_completion_tokens"),
        ("gpt-5.2-chat-latest", "GPT-5 chat", "max_completion_tokens"),
        ("gpt-5.4-mini", "GPT-5.1 and later", "max_completion_tokens"),
        ("gpt-6.1-terra", "GPT-5.1 and later", "max_completion_tokens"),
        ("openai/gpt-5-mini", "GPT-5", "max_completion_tokens"),
        ("o4-mini", "o series", "max_completion_tokens"),
        ("olmo-2-7b", "any other server of the protocol", "max_tokens"),
        ("Qwen/Qwen3-8B", "any other server of the protocol", "max_tokens"),
        ("offline-judge", "any other server of the protocol", "max_tokens"),
    ],
)
def test_a_models_name_tells_its_family_and_limit(model: str, family: str, limit: str) -> None:
    takes = capabilities_of(model)
    assert (takes.family, takes.limit) == (family, limit)


def parameters(model: str, seed: int | None = None, **changes: Any) -> dict[str, Any]:
    return parameters_for(BlackBoxSettings(model=model, max_tokens=9, **changes), seed)


def test_everything_that_is_set_is_sent() -> None:
    settings = BlackBoxSettings(model="gpt-4.1-mini", max_tokens=9, temperature=0.5, seed=True)
    sent = parameters_for(settings, 2**40 + 5)
    assert sent == {
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "response_format": {"type": "json_object"},
        "seed": 5,
    }


def test_nothing_is_sent_that_is_not_set() -> None:
    assert parameters("some-model", seed=5, json_mode=False) == {"max_tokens": 9}


def test_json_mode_is_left_out_where_it_does_not_exist() -> None:
    assert parameters("gpt-4") == {"max_tokens": 9}


def test_temperature_goes_to_a_reasoning_model_that_does_not_reason() -> None:
    sent = parameters("gpt-5.4-mini", temperature=0, reasoning_effort="none")
    assert (sent["temperature"], sent["reasoning_effort"]) == (0, "none")


@pytest.mark.parametrize(
    ("model", "changes", "named"),
    [
        ("gpt-5-mini", {"temperature": 0}, "black_box.temperature"),
        ("gpt-5-mini", {"temperature": 0, "reasoning_effort": "minimal"}, "black_box.temperature"),
        ("gpt-5.4-mini", {"temperature": 0}, "black_box.reasoning_effort=none"),
        ("o4-mini", {"temperature": 1}, "black_box.temperature"),
        ("gpt-4.1-mini", {"reasoning_effort": "low"}, "black_box.reasoning_effort"),
    ],
    ids=str,
)
def test_a_setting_that_the_model_does_not_take_is_an_error(model: str, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match="does not take") as caught:
        parameters(model, **changes)
    assert named in str(caught.value)
