"""Questions over real HTTP, into a real ledger: what is sent, paid and kept; what heals, fails alone or pauses."""

import asyncio
import threading
import time
from collections import Counter
from decimal import Decimal

import pytest

from cyclealign.black_box.prices import Prices
from cyclealign.errors import BudgetReached, EndpointRefused, RunPaused, UsageError
from cyclealign.method.answers import AnswerRejected
from cyclealign.records import ChatReply
from storage import calls
from storage.ledger import Ledger
from tasks.asking.pace import Backoff, Gate
from tasks.asking.protocol import AT_ONCE, Account, Direct
from tasks.asking.questions import Asker, Question, Result
from tests.black_box.model_server import ModelServer
from tests.tasks.asked import (
    COST,
    QUICK,
    account,
    ask,
    ask_all,
    attempts,
    call_states,
    key,
    question,
    request,
    rows,
    script,
    spent,
)


@pytest.fixture
def asked(ledger: Ledger, server: ModelServer) -> Account:
    """The account of run `run`."""
    return account(ledger, server)


def worst_case(asked: Account) -> Decimal:
    return Prices(asked.settings).reserve_usd(request()[0])


def wait_for(server: ModelServer, requests: int) -> None:
    while len(server.requests) < requests:
        time.sleep(0.005)


# What is paid and kept


def test_an_answer_is_committed_with_its_cost_and_verdict(ledger: Ledger, asked: Account) -> None:
    result = ask(asked)
    found = calls.find(ledger, result.call_key)
    assert found is not None
    assert (found.reply, found.cost_usd, found.state, found.run_name) == (result.answer, COST, "answered", "run")
    assert rows(ledger, "select verdict from api_calls") == [{"verdict": "accepted"}]
    assert spent(ledger) == COST


def test_a_recorded_answer_is_not_bought_again_by_another_run(
    ledger: Ledger, server: ModelServer, asked: Account
) -> None:
    first = ask(asked)
    assert ask(account(ledger, server, "another run")).answer == first.answer
    assert (len(server.requests), spent(ledger, "another run")) == (1, 0)


def test_the_same_question_at_the_same_time_is_sent_once(server: ModelServer, asked: Account) -> None:
    results = [one.answer for one in ask_all(asked, [0, 0, 0]) if isinstance(one, Result)]
    assert len(set(results)) == len(server.requests) == 1


@pytest.mark.parametrize(
    ("behaviour", "state"), [("refusal", "refused"), ("filtered answer", "refused"), ("length", "truncated")]
)
def test_what_is_no_answer_is_final_for_its_slot_and_paid_once(
    ledger: Ledger, server: ModelServer, asked: Account, behaviour: str, state: str
) -> None:
    server.plan = script(behaviour, "good")
    assert ask(asked).answer == ask(asked).answer
    assert (call_states(ledger), len(server.requests), spent(ledger)) == ([state], 1, COST)


def test_a_reply_without_usage_is_charged_at_its_worst_case(
    ledger: Ledger, server: ModelServer, asked: Account, caplog: pytest.LogCaptureFixture
) -> None:
    server.plan = script("no usage")
    ask(asked)
    assert spent(ledger) == worst_case(asked)
    assert "charged at their worst case" in caplog.text


def test_odd_characters_are_stored(server: ModelServer, asked: Account) -> None:
    server.plan = script("odd characters")
    assert ask(asked).answer == ask(asked).answer
    assert len(server.requests) == 1


def test_a_missing_key_sends_and_records_nothing(
    ledger: Ledger, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EndpointRefused, match="OPENAI_API_KEY"):
        ask(account(ledger, server, base_url="https://example.invalid/v1"))
    assert ledger.is_empty()


def test_the_cap_is_never_exceeded_under_concurrency_and_goes_on_once_raised(
    ledger: Ledger, server: ModelServer, asked: Account
) -> None:
    cap = worst_case(asked) + 5 * COST
    results = ask_all(account(ledger, server, budget_usd=float(cap), concurrency=16), range(20))
    assert Counter(type(one) for one in results) == {Result: 6, BudgetReached: 14}
    assert spent(ledger) == len(server.requests) * COST <= cap
    results = ask_all(account(ledger, server, budget_usd=100), range(20))
    assert {type(one) for one in results} == {Result}
    assert len(server.requests) == 20


def test_a_cap_without_a_price_is_refused_at_the_start(ledger: Ledger, server: ModelServer) -> None:
    with pytest.raises(UsageError, match=r"black_box\.price"):
        Direct(account(ledger, server, price=None, budget_usd=1))


# Asks and the caller


UNREADABLE = AnswerRejected("malformed", "Found nothing, expected something.")


def reads_from(ask_number: int) -> Question[int]:
    """Three asks, of which only those from this number on can be read."""

    def read(_reply: ChatReply, ask: int) -> int:
        if ask < ask_number:
            raise UNREADABLE
        return ask

    return Question("ranking", request, read, asks=3, step=4, round=2)


def test_an_answer_that_cannot_be_read_is_asked_again_in_another_slot(ledger: Ledger, asked: Account) -> None:
    with Asker(Direct(asked, QUICK)) as asker:
        first, later, never = asker.ask([reads_from(0), reads_from(1), reads_from(3)])
    assert [(one.answer, one.reason, one.asks) for one in (first, later)] == [(0, None, 1), (1, None, 2)]
    assert (never.answer, never.reason, never.detail, never.asks) == (None, "malformed", UNREADABLE.detail, 3)
    verdicts = rows(ledger, "select step, round, ask, verdict from api_calls order by ask")
    assert [(one["step"], one["round"], one["ask"]) for one in verdicts] == [(4, 2, 0), (4, 2, 1), (4, 2, 2)]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("bad request", "call_rejected"), ("filtered prompt", "content_filter"), ("500", "call_failed")],
)
def test_a_call_that_cannot_be_made_is_not_asked_again(
    server: ModelServer, asked: Account, behaviour: str, reason: str
) -> None:
    server.plan = script("good", behaviour)
    with Asker(Direct(asked, QUICK)) as asker:
        asker.ask([question(9)])
        (result,) = asker.ask([reads_from(0)])
    assert (result.answer, result.reason, result.asks) == (None, reason, 1)


def test_results_stand_in_the_order_of_the_questions(server: ModelServer, asked: Account) -> None:
    server.plan = lambda number, _body: "slow first byte" if number % 2 == 0 else "good"
    with Asker(Direct(asked, QUICK)) as asker:
        results = asker.ask([question(slot) for slot in range(4)])
    assert [one.call_key for one in results] == [key(asked, slot) for slot in range(4)]


def test_the_caller_goes_on_while_answers_are_under_way(server: ModelServer, asked: Account) -> None:
    server.plan = script("held")
    with Asker(Direct(asked, QUICK)) as asker:
        future = asker.submit([question()])
        assert not future.done()
        server.released.set()
        assert future.result(timeout=20)[0].answer is not None


def test_a_pause_reaches_the_caller_and_every_later_question(server: ModelServer, asked: Account) -> None:
    server.plan = script("quota")
    with Asker(Direct(asked, QUICK)) as asker:
        for slots in (range(5), [9]):
            with pytest.raises(EndpointRefused, match="add credit"):
                asker.ask([question(slot) for slot in slots])
    assert len(server.requests) <= AT_ONCE


def test_closing_keeps_what_is_under_way_and_sends_nothing_more(ledger: Ledger, server: ModelServer) -> None:
    server.plan = script("held")
    asker = Asker(Direct(account(ledger, server, concurrency=1), QUICK))
    futures = [asker.submit([question(slot)]) for slot in range(2)]
    wait_for(server, 1)
    closing = threading.Thread(target=asker.close)
    closing.start()
    with pytest.raises(RunPaused, match="closing"):
        futures[1].result(timeout=20)
    server.released.set()
    closing.join()
    assert futures[0].result(timeout=0)[0].answer is not None
    assert (call_states(ledger), len(server.requests)) == (["answered"], 1)
    asker.close()
    assert "asker" not in {thread.name for thread in threading.enumerate()}


# Faults of the other side


@pytest.mark.parametrize(("behaviour", "kind"), [("bad request", "bad_request"), ("filtered prompt", "content_filter")])
def test_a_rejected_request_is_recorded_and_not_sent_again(
    ledger: Ledger, server: ModelServer, asked: Account, behaviour: str, kind: str
) -> None:
    server.plan = script(behaviour)
    assert ask(asked).reason == ask(asked).reason != "call_failed"
    assert len(server.requests) == 1
    (attempt,) = attempts(ledger)
    assert (attempt["state"], attempt["failure"], attempt["http_status"]) == ("failed", kind, 400)


HEALS = {
    "rate limit": ("rate_limit", 0),
    "rate limit, retry-after": ("rate_limit", 0),
    "500": ("server_error", 0),
    "502": ("overloaded", 0),
    "503": ("overloaded", 0),
    "reset": ("connection", 1),
    "truncated body": ("connection", 1),
    "empty body": ("empty_body", 1),
    "no choices": ("no_choices", 1),
    "broken json": ("unreadable_body", 1),
}
"""Behaviour to kind of failure, and whether the reserve is charged because the server may have charged."""


def test_passing_failures_heal_and_cost_their_reserve_where_the_server_may_have_charged(
    ledger: Ledger, server: ModelServer
) -> None:
    server.plan = script(*HEALS, "good")
    asked = account(ledger, server, attempts=len(HEALS) + 1)
    assert ask(asked).answer is not None
    *failed, answered = attempts(ledger)
    costs = [Decimal(str(row["cost_usd"])).quantize(Decimal("1e-6")) for row in failed]
    assert [row["failure"] for row in failed] == [kind for kind, _ in HEALS.values()]
    assert costs == [charged * worst_case(asked) for _, charged in HEALS.values()]
    assert [row["raw"] for row in failed if row["raw"]][-1] == '{"choices": [{"message"'
    assert answered["state"] == "answered"


def test_retry_after_holds_every_call(ledger: Ledger, server: ModelServer, asked: Account) -> None:
    server.plan = script("rate limit, retry-after", "good")
    with Asker(Direct(asked, QUICK)) as asker:
        first = asker.submit([question(0)])
        wait_for(server, 1)
        while all(attempt["state"] != "failed" for attempt in attempts(ledger)):
            time.sleep(0.005)
        asker.ask([question(1)])
        first.result()
    refused, *later = attempts(ledger)
    assert len(later) == 2
    assert all((one["started_at"] - refused["ended_at"]).total_seconds() >= 0.1 for one in later)


REFUSALS = [
    "quota",
    "revoked key",
    "forbidden",
    "model not found",
    "unsupported parameter",
    "moved",
    "rate limit, a day",
]


@pytest.mark.parametrize("behaviour", REFUSALS, ids=str)
def test_a_refusing_endpoint_pauses_once(ledger: Ledger, server: ModelServer, behaviour: str) -> None:
    server.plan = script(behaviour)
    results = ask_all(account(ledger, server, concurrency=2), range(20))
    assert {type(result) for result in results} == {EndpointRefused}
    assert len({str(result) for result in results}) == 1
    assert len(server.requests) <= 2
    assert ({row["state"] for row in attempts(ledger)}, spent(ledger)) == ({"failed"}, 0)


@pytest.mark.parametrize(("concurrency", "expected"), [(None, AT_ONCE), (12, 12)])
def test_as_many_calls_are_under_way_as_the_settings_say_and_eight_where_they_do_not(
    ledger: Ledger, server: ModelServer, concurrency: int | None, expected: int
) -> None:
    server.plan = script("held")
    with Asker(Direct(account(ledger, server, concurrency=concurrency), QUICK)) as asker:
        future = asker.submit([question(slot) for slot in range(12)])
        wait_for(server, expected)
        time.sleep(0.3)  # for those that should not be sent yet
        server.released.set()
        assert len(future.result()) == 12
    assert server.most_at_once == expected


def test_a_call_under_way_is_kept_when_another_is_refused_and_the_run_goes_on_later(
    ledger: Ledger, server: ModelServer
) -> None:
    server.plan = script("slow first byte", "quota", "good")
    asked = account(ledger, server, concurrency=2)
    assert Counter(type(one) for one in ask_all(asked, [0, 1])) == {Result: 1, EndpointRefused: 1}
    assert call_states(ledger) == ["answered", "open"]
    assert {type(one) for one in ask_all(asked, [0, 1])} == {Result}
    assert len(server.requests) == 3


def test_an_endpoint_that_does_not_listen_pauses_after_the_attempts(ledger: Ledger, server: ModelServer) -> None:
    with pytest.raises(EndpointRefused, match="2 attempts failed"):
        ask(account(ledger, server, base_url="http://127.0.0.1:9/v1", attempts=2))
    assert [row["failure"] for row in attempts(ledger)] == ["connection", "connection"]
    assert spent(ledger) == 0


def test_a_request_that_always_breaks_the_server_fails_alone(ledger: Ledger, server: ModelServer) -> None:
    server.plan = script("good", "500")
    _, failed = ask_all(account(ledger, server, concurrency=1), range(2))
    assert isinstance(failed, Result)
    assert (failed.reason, failed.detail[:17]) == ("call_failed", "4 attempts failed")
    assert len(server.requests) == 1 + 4


def test_an_endpoint_that_has_never_answered_pauses_the_run(
    ledger: Ledger, server: ModelServer, asked: Account
) -> None:
    server.plan = script("500")
    with pytest.raises(EndpointRefused, match="No call came through: 4 attempts failed"):
        ask(asked)
    assert call_states(ledger) == ["open"]


def test_half_of_a_hundred_calls_fail_and_all_are_answered_or_recorded(ledger: Ledger, server: ModelServer) -> None:
    faults = [*HEALS, "refusal", "length", "prose", "slow first byte"]
    server.plan = lambda number, _body: "good" if number % 2 else faults[(number // 2) % len(faults)]
    results = ask_all(account(ledger, server, concurrency=16, attempts=8, budget_usd=500), range(100))
    assert {type(one) for one in results} == {Result}
    found = attempts(ledger)
    assert len(found) == len(server.requests)
    assert server.most_at_once <= 16
    billed = len(server.requests) - sum(HEALS.get(fault, ("", 1))[1] == 0 for fault in server.behaviours)
    assert billed * COST <= spent(ledger) <= 500
    assert {row["failure"] for row in found if row["state"] == "failed"} == {kind for kind, _ in HEALS.values()}


# Pace


def test_too_much_halves_the_pace_once_and_success_raises_it_within_its_bounds() -> None:
    async def allowed() -> list[int]:
        gate, found = Gate(16), []
        async with gate.place() as entered:
            gate.slow_down(entered)
            gate.slow_down(entered)
        found.append(gate.allowed)
        for _ in range(9):
            gate.speed_up()
        found.append(gate.allowed)
        for _ in range(9):
            async with gate.place() as entered:
                gate.slow_down(entered)
        found.append(gate.allowed)
        for _ in range(200):
            gate.speed_up()
        return [*found, gate.allowed]

    assert asyncio.run(allowed()) == [8, 9, 1, 16]


def test_backoff_doubles_up_to_its_most_with_seeded_jitter() -> None:
    backoff = Backoff(first_s=1, most_s=10)
    for attempt, full in [(1, 1), (2, 2), (4, 8), (9, 10)]:
        assert full / 2 <= backoff.seconds(attempt, seed=7) <= full
        assert backoff.seconds(attempt, seed=7) == backoff.seconds(attempt, seed=7)
