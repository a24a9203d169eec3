"""Faults of the other side: each heals, is recorded, or pauses the run, over real HTTP into a real ledger."""

import asyncio
from collections import Counter
from decimal import Decimal

import pytest

from cyclealign.black_box.prices import Prices
from cyclealign.errors import CallFailed, CallRejected, CallTransient, EndpointRefused
from cyclealign.records import ChatReply
from cyclealign.settings import BlackBoxSettings
from storage import calls
from storage.ledger import Ledger
from tasks.asking.protocol import AT_ONCE, Asker
from tests.models.black_box.fault_server import FaultServer
from tests.tasks.paid_calls import (
    COST,
    arrived,
    ask,
    ask_many,
    attempts,
    call_state,
    one_failed,
    request,
    script,
    settings,
    with_asker,
)


@pytest.mark.parametrize(("behaviour", "kind"), [("bad request", "bad_request"), ("filtered prompt", "content_filter")])
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
    limits = settings(server, timeout_s=2 if behaviour == "hang" else 10)
    assert ask(ledger, limits).finish_reason == "stop"
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


def test_retry_after_holds_every_worker(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("rate limit, retry-after", "good")

    async def two(asker: Asker) -> None:
        first = asyncio.ensure_future(asker.ask(request(0)))
        await arrived(server, 1)
        await one_failed(ledger)
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


@pytest.mark.parametrize(("concurrency", "expected"), [(None, AT_ONCE), (12, 12)])
def test_as_many_questions_are_open_as_the_settings_say_and_eight_where_they_do_not(
    ledger: Ledger, server: FaultServer, concurrency: int | None, expected: int
) -> None:
    server.plan = script("held")

    async def ask_all(asker: Asker) -> int:
        asked = [asyncio.ensure_future(asker.ask(request(slot))) for slot in range(12)]
        await arrived(server, expected)
        await asyncio.sleep(0.3)  # for those that should not be sent yet
        server.released.set()
        return len(await asyncio.gather(*asked))

    assert with_asker(ledger, settings(server, concurrency=concurrency), ask_all) == 12
    assert server.most_at_once == expected


def test_calls_under_way_finish_when_another_is_refused(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("slow first byte", "quota")
    outcomes = ask_many(ledger, settings(server, concurrency=2), [0, 1])
    assert Counter(type(one) for one in outcomes) == {ChatReply: 1, EndpointRefused: 1}
    assert sorted(call_state(ledger, server, slot) or "" for slot in (0, 1)) == ["answered", "open"]


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
    server.plan = script("good", "500")
    answered, failed = ask_many(ledger, settings(server, concurrency=1), range(2))
    assert isinstance(answered, ChatReply)
    assert isinstance(failed, CallTransient)
    assert "4 attempts failed" in str(failed)
    assert len(server.requests) == 1 + 4


def test_an_endpoint_that_has_never_answered_pauses_the_run(ledger: Ledger, server: FaultServer) -> None:
    server.plan = script("500")
    with pytest.raises(EndpointRefused, match="No call came through: 4 attempts failed"):
        ask(ledger, settings(server))
    assert call_state(ledger, server) == "open"


def test_half_of_two_hundred_calls_fail_and_all_are_answered_or_recorded(ledger: Ledger, server: FaultServer) -> None:
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
