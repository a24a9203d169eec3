"""What a call costs and can cost at most."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclealign.black_box.prices import Prices, most_completion_tokens, most_prompt_tokens
from cyclealign.errors import UsageError
from cyclealign.records import ChatRequest, Message
from cyclealign.settings import BlackBoxSettings, PriceSettings

OWN = PriceSettings(input=0.5, output=1.5)


def request(text: str = "hello", **parameters: int) -> ChatRequest:
    return ChatRequest("ranking", "gpt-3.5-turbo", (Message("user", text),), parameters)


def test_the_papers_models_have_their_price_in_the_table() -> None:
    prices = Prices(BlackBoxSettings(model="gpt-3.5-turbo"))
    assert prices.cost_usd("gpt-3.5-turbo", 1_000_000, 0) == Decimal("0.5")
    assert prices.cost_usd("gpt-3.5-turbo", 0, 1_000_000) == Decimal("1.5")
    assert prices.source.startswith("genai-prices 0.")


def test_a_price_of_ones_own_comes_first_but_for_its_model_only() -> None:
    prices = Prices(BlackBoxSettings(model="mine", price=OWN))
    assert prices.cost_usd("mine", 2_000_000, 1_000_000) == Decimal("2.5")
    assert prices.cost_usd("gpt-3.5-turbo", 1_000_000, 0) == Decimal("0.5")
    assert prices.cost_usd("another", 1, 1) is None
    assert prices.source == "black_box.price"


def test_a_cost_is_rounded_up_to_what_the_ledger_keeps() -> None:
    price = PriceSettings(input=0.0001, output=0)
    assert Prices(BlackBoxSettings(model="mine", price=price)).cost_usd("mine", 1, 0) == Decimal("1e-9")


def test_input_counts_at_the_dearer_price_of_writing_the_cache() -> None:
    cost = Prices(BlackBoxSettings(model="gpt-5.6-luna")).cost_usd("gpt-5.6-luna", 1_000, 0)
    assert cost == Decimal("0.00025")


def test_an_offline_judge_costs_nothing() -> None:
    prices = Prices(BlackBoxSettings(endpoint="world", budget_usd=1))
    assert prices.cost_usd("offline-judge", 10**9, 10**9) == 0
    prices.require_price()


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "https://gateway.example/v1"])
def test_the_price_at_an_unknown_address_is_unknown(url: str) -> None:
    assert Prices(BlackBoxSettings(base_url=url, model="gpt-4")).cost_usd("gpt-4", 1, 1) is None


def test_a_cap_without_a_price_says_what_to_set() -> None:
    prices = Prices(BlackBoxSettings(model="nobody-knows-it", budget_usd=1))
    with pytest.raises(UsageError, match=r"nobody-knows-it .* black_box\.price\.input"):
        prices.require_price()
    with pytest.raises(UsageError):
        prices.reserve_usd(ChatRequest("ranking", "nobody-knows-it", (), {"max_tokens": 1}))


def test_without_a_cap_an_unknown_price_reserves_nothing() -> None:
    prices = Prices(BlackBoxSettings(model="nobody-knows-it"))
    assert prices.reserve_usd(ChatRequest("ranking", "nobody-knows-it", (), {"max_tokens": 1})) == 0


def test_the_worst_case_is_all_bytes_in_and_the_limit_out() -> None:
    asked = request("ä" * 100, max_tokens=1000)
    tokens = most_prompt_tokens(asked)
    assert tokens >= 200
    worst = Prices(BlackBoxSettings(model="gpt-3.5-turbo")).worst_case_usd(asked)
    assert worst == (tokens * Decimal("0.5") + 1000 * Decimal("1.5")) / 1_000_000


@given(st.text())
def test_more_text_is_never_cheaper(text: str) -> None:
    assert most_prompt_tokens(request(text + "x")) > most_prompt_tokens(request(text)) >= len(text)


def test_every_choice_that_is_asked_for_counts() -> None:
    assert most_completion_tokens(request(max_completion_tokens=7, n=3)) == 21


def test_a_request_without_a_limit_has_no_worst_case() -> None:
    with pytest.raises(ValueError, match="a limit on its cost"):
        most_completion_tokens(request())
