"""Which parameters are sent to which model, and what a call costs and can cost at most."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclealign.black_box.capabilities import capabilities_of, parameters_for
from cyclealign.black_box.prices import Prices, most_completion_tokens, most_prompt_tokens
from cyclealign.errors import UsageError
from cyclealign.settings import BlackBoxSettings, PriceSettings

FAMILIES = {
    "any other server of the protocol": ["gpt-3.5-turbo", "gpt-4-turbo", "olmo-2-7b", "Qwen/Qwen3-8B", "offline-judge"],
    "GPT-4, 2023": ["gpt-4", "gpt-4-0613"],
    "GPT-4o and GPT-4.1": ["gpt-4o-mini", "gpt-4.1-mini"],
    "GPT-5": ["gpt-5", "gpt-5-mini-2025-08-07", "openai/gpt-5-mini"],
    "GPT-5 chat": ["gpt-5-chat-latest", "gpt-5.2-chat-latest"],
    "GPT-5.1 and later": ["gpt-5.4-mini", "gpt-6.1-terra"],
    "o series": ["o4-mini"],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_models_name_tells_its_family_and_limit(family: str) -> None:
    takes = [capabilities_of(model) for model in FAMILIES[family]]
    assert {one.family for one in takes} == {family}
    old = family.startswith(("any other", "GPT-4, 2023"))
    assert {one.limit for one in takes} == {"max_tokens" if old else "max_completion_tokens"}


def parameters(model: str, draw: int | None = None, **changes: Any) -> dict[str, Any]:
    return parameters_for(BlackBoxSettings(model=model, max_tokens=9, **changes), draw)


def test_everything_that_is_set_is_sent_and_nothing_else() -> None:
    assert parameters("gpt-4.1-mini", 2**40 + 5, temperature=0.5, seed=True) == {
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "response_format": {"type": "json_object"},
        "seed": 5,
    }
    assert parameters("some-model", 5, json_mode=False) == parameters("gpt-4") == {"max_tokens": 9}
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


def request(text: str = "hello", model: str = "gpt-3.5-turbo", **limits: int) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **limits}


def prices(model: str = "gpt-3.5-turbo", **changes: Any) -> Prices:
    return Prices(BlackBoxSettings(model=model, **changes))


def test_the_papers_models_have_their_price_in_the_table() -> None:
    assert prices().cost_usd("gpt-3.5-turbo", 1_000_000, 0) == Decimal("0.5")
    assert prices().cost_usd("gpt-3.5-turbo", 0, 1_000_000) == Decimal("1.5")
    assert prices().source.startswith("genai-prices 0.")


def test_a_price_of_ones_own_comes_first_but_for_its_model_only() -> None:
    mine = prices("mine", price=PriceSettings(input=0.5, output=1.5))
    assert mine.cost_usd("mine", 2_000_000, 1_000_000) == Decimal("2.5")
    assert mine.cost_usd("gpt-3.5-turbo", 1_000_000, 0) == Decimal("0.5")
    assert mine.cost_usd("another", 1, 1) is None
    assert mine.source == "black_box.price"


def test_a_cost_is_rounded_up_and_input_counts_at_the_dearer_price_of_writing_the_cache() -> None:
    assert prices("mine", price=PriceSettings(input=0.0001, output=0)).cost_usd("mine", 1, 0) == Decimal("1e-9")
    assert prices("gpt-5.6-luna").cost_usd("gpt-5.6-luna", 1_000, 0) == Decimal("0.00025")


def test_an_offline_judge_costs_nothing() -> None:
    offline = prices("offline-judge", endpoint="world", budget_usd=1)
    assert offline.cost_usd("offline-judge", 10**9, 10**9) == 0
    offline.require_price()


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "https://gateway.example/v1"])
def test_the_price_at_an_unknown_address_is_unknown(url: str) -> None:
    assert prices("gpt-4", base_url=url).cost_usd("gpt-4", 1, 1) is None


def test_an_unknown_price_reserves_nothing_without_a_cap_and_is_refused_with_one() -> None:
    asked = request(model="unknown", max_tokens=1)
    assert prices("unknown").reserve_usd(asked) == 0
    with pytest.raises(UsageError, match=r"unknown .* black_box\.price\.input"):
        prices("unknown", budget_usd=1).reserve_usd(asked)


def test_the_worst_case_is_all_bytes_in_and_the_limit_of_every_choice_out() -> None:
    asked = request("ä" * 100, max_tokens=1000)
    tokens = most_prompt_tokens(asked)
    assert tokens >= 200
    assert prices().worst_case_usd(asked) == (tokens * Decimal("0.5") + 1000 * Decimal("1.5")) / 1_000_000
    assert most_completion_tokens(request(max_completion_tokens=7, n=3)) == 21
    with pytest.raises(ValueError, match="a limit on its cost"):
        most_completion_tokens(request())


@given(st.text())
def test_more_text_is_never_cheaper(text: str) -> None:
    assert most_prompt_tokens(request(text + "x")) > most_prompt_tokens(request(text)) >= len(text)
