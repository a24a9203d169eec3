"""The protocol of a paid call, over real HTTP, into a real ledger: what is sent, paid and kept."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from cyclealign.black_box.prices import Prices
from cyclealign.errors import BudgetReached, EndpointRefused, RunPaused, UsageError
from cyclealign.records import ChatReply
from storage import calls
from storage.ledger import Ledger
from tasks.asking.protocol import Asker
from tests.models.black_box.fault_server import FaultServer
from tests.tasks.paid_calls import (
    COST,
    arrived,
    ask,
    ask_many,
    attempts,
    call_state,
    request,
    script,
    settings,
    with_asker,
)


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


def test_closing_lets_calls_under_way_finish(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("held")

    async def stop_in_between(asker: Asker) -> list[Any]:
        asked = [asyncio.ensure_future(asker.ask(request(slot))) for slot in range(4)]
        await arrived(server, 2)
        asker.stop()
        server.released.set()
        return list(await asyncio.gather(*asked, return_exceptions=True))

    outcomes = with_asker(ledger, settings(server, concurrency=2), stop_in_between)
    assert Counter(type(one) for one in outcomes) == {ChatReply: 2, RunPaused: 2}
    assert len(server.requests) == 2


def test_a_cancelled_call_is_charged_in_full(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("hang")

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
