"""The protocol of a paid call, over real HTTP, into a real ledger: what is sent, paid and kept."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cyclealign.errors import (
    BudgetReached,
    CallFailed,
    CallRejected,
    CallTransient,
    EndpointRefused,
    RunPaused,
    UsageError,
)
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.models.black_box import ChatEndpoint
from cyclealign.models.prices import Prices
from cyclealign.records import ChatReply, ChatRequest, Message
from cyclealign.settings import BlackBoxSettings, PriceSettings
from storage import calls
from storage.ledger import Ledger
from tasks.asking import Asker
from tasks.pace import Backoff, Pace
from tests.models.black_box.fault_server import USAGE, FaultServer, serving

QUICK = Backoff(first_s=0.01, most_s=0.05)
PRICE = PriceSettings(input=1000, output=1000)
"""US dollars per million tokens: 0.1 cent a token."""
COST = Decimal(USAGE["prompt_tokens"] + USAGE["completion_tokens"]) / 1000
PROMPT = render_ranking_prompt("Human: hello\n\nAssistant:", ["b", "a", "c"], ())


@pytest.fixture(scope="module")
def running() -> Iterator[FaultServer]:
    """One server for the module."""
    with serving(FaultServer()) as server:
        yield server


@pytest.fixture
def server(running: FaultServer) -> FaultServer:
    """The server as if it had just started."""
    running.plan = lambda _number, _body: "good"
    running.requests.clear()
    running.behaviours.clear()
    running.most_at_once = 0
    return running


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.close()


def settings(server: FaultServer, **changes: Any) -> BlackBoxSettings:
    defaults = {
        "base_url": server.url,
        "model": "some-model",
        "timeout_s": 0.6,
        "attempts": 4,
        "price": PRICE,
    }
    return BlackBoxSettings.model_validate({**defaults, **changes})


def request(slot: int = 0) -> ChatRequest:
    return ChatRequest("ranking", "some-model", (Message("user", PROMPT),), {"max_tokens": 20}, (slot,))


def script(*behaviours: str) -> Callable[[int, dict[str, Any]], str]:
    """A plan that goes through these behaviours and stays at the last one."""
    return lambda number, _body: behaviours[min(number, len(behaviours) - 1)]


def with_asker(
    ledger: Ledger,
    settings: BlackBoxSettings,
    use: Callable[[Asker], Coroutine[Any, Any, Any]],
    run_name: str = "run",
) -> Any:
    """What `use` returns or raises with an asker in an event loop of its own."""

    async def within() -> Any:
        asker = Asker(ledger, ChatEndpoint(settings), settings, run_name, QUICK)
        try:
            return await use(asker)
        finally:
            await asker.endpoint.close()

    return asyncio.run(within())


def ask(ledger: Ledger, settings: BlackBoxSettings, slot: int = 0, run_name: str = "run") -> ChatReply:
    reply: ChatReply = with_asker(ledger, settings, lambda asker: asker.ask(request(slot), 3, 2, 1), run_name)
    return reply


def ask_many(ledger: Ledger, settings: BlackBoxSettings, slots: Sequence[int]) -> list[Any]:
    """Replies and exceptions, in the order of the slots."""

    async def all_of_them(asker: Asker) -> list[Any]:
        asked = [asker.ask(request(slot)) for slot in slots]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    outcomes: list[Any] = with_asker(ledger, settings, all_of_them)
    return outcomes


async def arrived(server: FaultServer, requests: int) -> None:
    """Wait until the server, which runs in another thread, has seen so many requests."""
    while len(server.requests) < requests:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def attempts(ledger: Ledger) -> list[dict[str, Any]]:
    """All attempts in the order they were begun."""
    frame, _ = ledger.query_anywhere("select * from api_attempts order by attempt")
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def call_state(ledger: Ledger, server: FaultServer, slot: int = 0) -> str | None:
    row = calls.find(ledger, request(slot).key(ChatEndpoint(settings(server)).origin))
    return row.state if row else None


def test_an_answer_is_committed_with_its_cost(ledger: Ledger, server: FaultServer) -> None:
    reply = ask(ledger, settings(server))
    row = calls.find(ledger, request().key(server.url))
    assert row is not None
    assert (row.state, row.reply, row.cost_usd, row.run_name) == ("answered", reply, COST, "run")
    assert calls.spend(ledger, "run") == COST


def test_a_recorded_answer_is_not_asked_again_by_another_run(ledger: Ledger, server: FaultServer) -> None:
    first = ask(ledger, settings(server))
    assert ask(ledger, settings(server), run_name="another run") == first
    assert len(server.requests) == 1
    assert calls.spend(ledger, "another run") == 0


def test_the_same_question_at_the_same_time_is_asked_once(ledger: Ledger, server: FaultServer) -> None:
    replies = ask_many(ledger, settings(server), [0, 0, 0])
    assert len({reply.raw for reply in replies}) == 1
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("behaviour", "state"), [("refusal", "refused"), ("filtered answer", "refused"), ("length", "truncated")]
)
def test_what_is_no_answer_is_final_for_its_slot_and_paid_once(
    ledger: Ledger, server: FaultServer, behaviour: str, state: str
) -> None:
    server.plan = script(behaviour, "good")
    first = ask(ledger, settings(server))
    assert call_state(ledger, server) == state
    assert ask(ledger, settings(server)) == first
    assert len(server.requests) == 1
    assert calls.spend(ledger, "run") == COST


def test_another_slot_is_another_call(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("refusal", "good")
    ask(ledger, settings(server), slot=0)
    assert ask(ledger, settings(server), slot=1).refusal is None
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("behaviour", "kind"), [("bad request", "bad_request"), ("filtered prompt", "content_filter")]
)
def test_a_rejected_request_is_recorded_and_not_sent_again(
    ledger: Ledger, server: FaultServer, behaviour: str, kind: str
) -> None:
    server.plan = script(behaviour)
    for _ in range(2):
        with pytest.raises(CallRejected) as caught:
            ask(ledger, settings(server))
        assert caught.value.kind == kind
    assert len(server.requests) == 1
    (attempt,) = attempts(ledger)
    assert (attempt["state"], attempt["failure"], attempt["http_status"]) == ("failed", kind, 400)


HEALS = {
    "rate limit": ("rate_limit", 0),
    "rate limit, retry-after": ("rate_limit", 0),
    "rate limit, retry-after-ms": ("rate_limit", 0),
    "500": ("server_error", 0),
    "502": ("overloaded", 0),
    "503": ("overloaded", 0),
    "reset": ("connection", 1),
    "hang": ("timeout", 1),
    "truncated body": ("connection", 1),
    "empty body": ("empty_body", 1),
    "no choices": ("no_choices", 1),
    "broken json": ("unreadable_body", 1),
}
"""Behaviour to kind of failure, and whether the reserve is charged because the server may have charged."""


@pytest.mark.parametrize("behaviour", HEALS, ids=str)
def test_a_passing_failure_heals(ledger: Ledger, server: FaultServer, behaviour: str) -> None:
    server.plan = script(behaviour, "good")
    assert ask(ledger, settings(server)).finish_reason == "stop"
    failed, answered = attempts(ledger)
    kind, charged = HEALS[behaviour]
    reserve = Prices(settings(server)).worst_case_usd(request())
    assert (failed["state"], failed["failure"], answered["state"]) == ("failed", kind, "answered")
    assert Decimal(str(failed["cost_usd"])).quantize(Decimal("1e-6")) == (reserve if charged else 0)


def test_an_unreadable_body_is_kept(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("broken json", "good")
    ask(ledger, settings(server))
    assert attempts(ledger)[0]["raw"] == '{"choices": [{"message"'


def test_a_slow_first_byte_is_one_attempt(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("slow first byte")
    ask(ledger, settings(server))
    assert len(attempts(ledger)) == 1


def test_a_reply_without_usage_is_charged_at_its_worst_case(
    ledger: Ledger, server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.plan = script("no usage")
    ask(ledger, settings(server))
    assert calls.spend(ledger, "run") == Prices(settings(server)).worst_case_usd(request())
    assert "charged at their worst case" in caplog.text


def test_odd_characters_are_stored(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("odd characters")
    assert ask(ledger, settings(server)) == ask(ledger, settings(server))
    assert len(server.requests) == 1


def test_retry_after_holds_every_worker(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("rate limit, retry-after", "good")

    async def two(asker: Asker) -> None:
        first = asyncio.ensure_future(asker.ask(request(0)))
        await arrived(server, 1)
        await asyncio.sleep(0.02)
        await asker.ask(request(1))
        await first

    with_asker(ledger, settings(server), two)
    refused, *later = attempts(ledger)
    assert len(later) == 2
    assert all((one["started_at"] - refused["ended_at"]).total_seconds() >= 0.1 for one in later)


def test_who_asks_to_wait_for_a_day_pauses_the_run(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("rate limit, a day")
    with pytest.raises(EndpointRefused, match="86400 seconds"):
        ask(ledger, settings(server))
    assert len(server.requests) == 1


REFUSALS = ["quota", "revoked key", "forbidden", "model not found", "unsupported parameter", "moved"]


@pytest.mark.parametrize("behaviour", REFUSALS, ids=str)
def test_a_refusing_endpoint_pauses_once(ledger: Ledger, server: FaultServer, behaviour: str) -> None:
    server.plan = script(behaviour)
    outcomes = ask_many(ledger, settings(server, concurrency=2), range(20))
    assert all(isinstance(outcome, EndpointRefused) for outcome in outcomes)
    assert len({str(outcome) for outcome in outcomes}) == 1
    assert len(server.requests) <= 2
    assert {row["state"] for row in attempts(ledger)} == {"failed"}
    assert calls.spend(ledger, "run") == 0


def test_calls_under_way_finish_when_another_is_refused(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("slow first byte", "quota")
    slow, refused = ask_many(ledger, settings(server, concurrency=2), [0, 1])
    assert isinstance(slow, ChatReply)
    assert isinstance(refused, EndpointRefused)
    assert call_state(ledger, server) == "answered"


def test_a_run_goes_on_after_the_cause_is_gone(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("quota", "good")
    with pytest.raises(EndpointRefused):
        ask(ledger, settings(server))
    assert ask(ledger, settings(server)).finish_reason == "stop"


def test_an_unreachable_endpoint_pauses_after_its_attempts(ledger: Ledger) -> None:
    nowhere = BlackBoxSettings(base_url="http://127.0.0.1:9/v1", model="some-model", attempts=2)
    with pytest.raises(EndpointRefused, match="2 attempts failed"):
        ask(ledger, nowhere)
    assert [row["failure"] for row in attempts(ledger)] == ["connection", "connection"]
    assert calls.spend(ledger, "run") == 0


def test_a_request_that_always_breaks_the_server_fails_alone(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("500")
    with pytest.raises(CallTransient, match="4 attempts failed"):
        ask(ledger, settings(server))
    assert len(server.requests) == 4
    assert call_state(ledger, server) == "open"


def test_a_missing_key_sends_and_records_nothing(
    ledger: Ledger, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    remote = settings(server, base_url="https://example.invalid/v1")
    with pytest.raises(EndpointRefused, match="OPENAI_API_KEY"):
        ask(ledger, remote)
    assert attempts(ledger) == []


def test_the_key_stands_nowhere_in_the_ledger(
    ledger: Ledger, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = "sk-canary-0123456789-abcdefghij"
    monkeypatch.setenv("OPENAI_API_KEY", canary)
    server.plan = script("500", "reset", "broken json", "good", "bad request", "revoked key")
    for slot in range(3):
        ask_many(ledger, settings(server), [slot])
    assert server.behaviours[-1] == "revoked key"
    ledger.publish_snapshot()
    ledger.close()
    written = b"".join(path.read_bytes() for path in ledger.home.rglob("*") if path.is_file())
    assert b"some-model" in written
    assert canary.encode() not in written


def test_a_cap_without_a_price_is_refused_at_the_start(ledger: Ledger, server: FaultServer) -> None:
    with pytest.raises(UsageError, match=r"black_box\.price"):
        ask(ledger, settings(server, price=None, budget_usd=1))
    assert server.requests == []


def test_the_cap_is_never_exceeded_under_concurrency(ledger: Ledger, server: FaultServer) -> None:
    worst = Prices(settings(server)).worst_case_usd(request())
    assert worst is not None
    cap = worst + 5 * COST
    outcomes = ask_many(ledger, settings(server, budget_usd=float(cap), concurrency=16), range(20))
    answered = [one for one in outcomes if isinstance(one, ChatReply)]
    assert all(isinstance(one, ChatReply | BudgetReached) for one in outcomes)
    assert calls.spend(ledger, "run") == len(server.requests) * COST <= cap
    assert len(answered) == len(server.requests) == 6


def test_a_cap_that_is_raised_continues_where_it_stopped(ledger: Ledger, server: FaultServer) -> None:
    worst = Prices(settings(server)).worst_case_usd(request())
    assert worst is not None
    ask_many(ledger, settings(server, budget_usd=float(worst)), range(3))
    replies = ask_many(ledger, settings(server, budget_usd=100), range(3))
    assert all(isinstance(one, ChatReply) for one in replies)
    assert len(server.requests) == 3


def test_half_of_two_hundred_calls_fail_and_all_are_answered_or_recorded(
    ledger: Ledger, server: FaultServer
) -> None:
    faults = [fault for fault in HEALS if fault != "hang"] + ["refusal", "length", "prose", "slow first byte"]
    server.plan = lambda number, _body: "good" if number % 2 else faults[(number // 2) % len(faults)]
    limits = settings(server, concurrency=16, attempts=8, budget_usd=500)
    outcomes = ask_many(ledger, limits, range(200))
    assert all(isinstance(one, ChatReply | CallFailed) for one in outcomes)
    rows = attempts(ledger)
    assert len(rows) == len(server.requests)
    assert server.most_at_once <= 16
    assert {row["state"] for row in rows} == {"answered", "failed"}
    billed = len(server.requests) - sum(HEALS.get(fault, ("", 1))[1] == 0 for fault in server.behaviours)
    assert billed * COST <= calls.spend(ledger, "run") <= 500
    kinds = Counter(row["failure"] for row in rows if row["state"] == "failed")
    assert set(kinds) == {kind for fault, (kind, _) in HEALS.items() if fault != "hang"}


def test_closing_lets_calls_under_way_finish(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("slow first byte")

    async def stop_in_between(asker: Asker) -> list[Any]:
        asked = [asyncio.ensure_future(asker.ask(request(slot))) for slot in range(4)]
        await arrived(server, 2)
        asker.stop()
        return list(await asyncio.gather(*asked, return_exceptions=True))

    outcomes = with_asker(ledger, settings(server, concurrency=2), stop_in_between)
    assert Counter(type(one) for one in outcomes) == {ChatReply: 2, RunPaused: 2}
    assert len(server.requests) == 2


def test_a_cancelled_call_is_charged_in_full(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("slow first byte")

    async def cancel(asker: Asker) -> None:
        asked = asyncio.ensure_future(asker.ask(request()))
        await arrived(server, 1)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    with_asker(ledger, settings(server), cancel)
    (attempt,) = attempts(ledger)
    assert (attempt["failure"], attempt["cost_usd"]) == ("cancelled", attempt["reserved_usd"])


def test_a_request_without_a_limit_is_a_mistake(ledger: Ledger, server: FaultServer) -> None:
    with pytest.raises(ValueError, match="a limit on its cost"):
        with_asker(ledger, settings(server), lambda asker: asker.ask(replace(request(), parameters={})))
    assert server.requests == []


def test_too_much_halves_the_pace_once_and_success_raises_it() -> None:
    async def halve_and_creep() -> list[int]:
        pace = Pace(16)
        async with pace.turn() as entered:
            pace.slow_down(entered)
            pace.slow_down(entered)
        halved = pace.allowed
        for _ in range(9):
            pace.speed_up()
        return [halved, pace.allowed]

    assert asyncio.run(halve_and_creep()) == [8, 9]


def test_the_pace_never_falls_below_one_nor_rises_above_its_most() -> None:
    async def extremes() -> list[int]:
        pace, found = Pace(3), []
        for _ in range(5):
            async with pace.turn() as entered:
                pace.slow_down(entered)
        found.append(pace.allowed)
        for _ in range(50):
            pace.speed_up()
        return [*found, pace.allowed]

    assert asyncio.run(extremes()) == [1, 3]


def test_backoff_doubles_up_to_its_most_with_seeded_jitter() -> None:
    backoff = Backoff(first_s=1, most_s=10)
    for attempt, full in [(1, 1), (2, 2), (4, 8), (9, 10)]:
        assert full / 2 <= backoff.seconds(attempt, seed=7) <= full
        assert backoff.seconds(attempt, seed=7) == backoff.seconds(attempt, seed=7)
