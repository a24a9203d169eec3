"""Calls to the black box: every answer that was paid for is kept, every cent that may have been spent is counted.

Protocol of one call: `find` (an answered one is used, never bought again) → `begin_attempt` records the attempt with
its worst case → send → `settle` records the raw answer, or `fail_attempt` why there is none → read it →
`record_verdicts`. One process works on a run at a time, so what the run has spent is counted in memory. Leaves out:
sending, retrying, prices (`cyclealign.black_box`).
"""

import hashlib
import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from cyclealign.errors import BudgetReached
from cyclealign.records import ChatReply
from storage.facts import fact, value
from storage.ledger import Ledger

SettledState = Literal["answered", "refused", "truncated", "rejected"]
"""`answered`: content to be read. The others are kept and never served as answers."""
NOTHING = Decimal(0)


@fact("attempts")
@dataclass(frozen=True, slots=True)
class Attempt:
    """A call that is sent, recorded before it is."""

    call_key: str
    run_name: str
    """Who pays."""
    purpose: str
    model: str
    origin: str
    """Of the endpoint: scheme, host, port."""
    slot: tuple[int | str, ...]
    """Tells draws of the same request apart."""
    step: int | None
    round: int | None
    ask: int | None
    request: Mapping[str, Any]
    """The body."""
    reserved_usd: Decimal
    """The worst case."""
    attempt: int = 0
    """Its number; 0 until it begins."""


@fact("outcomes")
@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to."""

    attempt: int
    call_key: str
    run_name: str
    state: Literal["answered", "refused", "truncated", "rejected", "failed", "unknown"]
    cost_usd: Decimal
    reply: ChatReply | None = None
    failure: str | None = None
    http_status: int | None = None
    raw: str | None = None
    """A body that came with status 200 and holds no readable answer; it may have been paid for."""


@fact("verdicts")
@dataclass(frozen=True, slots=True)
class Verdict:
    """What reading an answer said: `accepted`, or why not."""

    call_key: str
    verdict: str


@fact("probes")
@dataclass(frozen=True, slots=True)
class Probe:
    """What an endpoint was found to take of the parameters that settings ask for."""

    origin: str
    model: str
    parameters: str
    """Those asked for, as JSON."""
    left_out: tuple[str, ...]
    """Those of them that it refuses."""
    token_limit: str
    """Its name for the limit on completion tokens."""
    answer: str
    """What was wrong with its answer to a question of known answer; empty: nothing."""


@fact("dismissals")
@dataclass(frozen=True, slots=True)
class Dismissal:
    """What a call came to so far is not served any more: most questions failed like it, and the run paused."""

    call_key: str


@dataclass
class _Book:
    """What this process knows of the calls of a home and need not ask the ledger for."""

    spent: dict[str, Decimal] = field(default_factory=dict)
    """By run: settled costs, and the reserves of attempts under way."""
    under_way: dict[int, Attempt] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    """Keys of calls that have an outcome."""
    seen: tuple[object, ...] | None = None
    """What other processes had recorded when their outcomes were looked up last."""
    until: datetime | None = None
    turn: threading.RLock = field(default_factory=threading.RLock)


def call_key(body: Mapping[str, Any], origin: str, slot: Sequence[int | str]) -> str:
    """The identity of a call: sha-256 over the body, the endpoint's origin and the slot."""
    canonical = json.dumps([body, origin, list(slot)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def probed(ledger: Ledger, origin: str, model: str, parameters: str) -> Probe | None:
    """What an endpoint was found to take under these parameters; None where it was not tried."""
    with ledger.session() as session:
        row = session.row("calls/probe", origin=origin, model=model, parameters=parameters)
    return None if row is None else value(Probe, row)


def find(ledger: Ledger, call_key: str) -> Outcome | None:
    """What a call came to, None where it has no outcome that stands; `answered` ones alone may be served as answers."""
    book = _book(ledger)
    with book.turn:
        if (seen := ledger.seen_elsewhere()) != book.seen:
            with ledger.session() as session:
                rows = session.rows("calls/settled", since=book.until)
            book.settled.update(row["call_key"] for row in rows)
            book.until = max((row["ended_at"] for row in rows), default=book.until)
            book.seen = seen
        if call_key not in book.settled:
            return None
    with ledger.session() as session:
        row = session.row("calls/find", call_key=call_key)
    return None if row is None else value(Outcome, row)


def begin_attempt(ledger: Ledger, call: Attempt, cap: Decimal | None) -> int:
    """Record that `call` is about to be sent and may cost up to its reserve; returns the attempt's number.

    Args:
        ledger: The ledger.
        call: What is about to be sent.
        cap: Most that the run may spend, US dollars; None: no limit.

    Raises:
        BudgetReached: the worst case does not fit under the cap; nothing was recorded.
    """
    with _book(ledger).turn:
        _check_cap(ledger, call.run_name, call.reserved_usd, cap)
        attempt = numbered(call)
        take_on(ledger, [attempt])
    return attempt.attempt


def numbered(call: Attempt) -> Attempt:
    """A new attempt at a call."""
    return replace(call, attempt=secrets.randbits(62))  # processes that know nothing of each other number theirs


def take_on(ledger: Ledger, attempts: Sequence[Attempt], *beside: object) -> None:
    """Record attempts of one run, together with what is `beside` them, and count them as under way."""
    book, run_name = _book(ledger), attempts[0].run_name
    with book.turn:
        spent = spend(ledger, run_name)
        ledger.record(*attempts, *beside)
        book.spent[run_name] = spent + sum(one.reserved_usd for one in attempts)
        book.under_way.update({one.attempt: one for one in attempts})


def how_many_fit(ledger: Ledger, run_name: str, reserves: Sequence[Decimal], cap: Decimal | None) -> int:
    """How many of the attempts, in order, fit under the cap together.

    Raises:
        BudgetReached: not even the first one does.
    """
    if cap is None:
        return len(reserves)
    _check_cap(ledger, run_name, reserves[0], cap)
    room, fitting = cap - spend(ledger, run_name), 0
    for reserved_usd in reserves:
        room -= reserved_usd
        fitting += room >= 0
    return fitting


def settle(ledger: Ledger, attempt: int, reply: ChatReply, cost_usd: Decimal, state: SettledState = "answered") -> None:
    """Record what came back for an attempt and what it cost, before anybody reads it."""
    _end(ledger, attempt, state=state, cost_usd=cost_usd, reply=reply, http_status=200)


def fail_attempt(  # noqa: PLR0913, PLR0917  what is known of a failure
    ledger: Ledger,
    attempt: int,
    failure: str,
    http_status: int | None = None,
    cost_usd: Decimal = NOTHING,
    raw: str | None = None,
    rejection: str | None = None,
) -> None:
    """Record that an attempt brought no answer; a timeout may have cost something all the same.

    Args:
        ledger: The ledger.
        attempt: Its number.
        failure: The kind of failure.
        http_status: Of the response, where there was one.
        cost_usd: What it may have cost, US dollars.
        raw: A body with status 200 that could not be read.
        rejection: Why the endpoint will never accept the call: then it is never sent again.
    """
    reply = None if rejection is None else ChatReply(rejection, None, None, failure, None, 0, 0)
    state = "failed" if rejection is None else "rejected"
    known = {"failure": failure, "http_status": http_status, "raw": raw}
    _end(ledger, attempt, state=state, cost_usd=cost_usd, reply=reply, **known)


def record_verdicts(ledger: Ledger, verdicts: Mapping[str, str]) -> None:
    """Note what reading answers said, by call key: `accepted`, or why not."""
    ledger.record(*(Verdict(call_key, verdict) for call_key, verdict in verdicts.items()))


def close_orphans(ledger: Ledger, run_name: str) -> int:
    """Charge the attempts that dead processes left in flight at their reserve; returns how many there were.

    To be called by the process that holds the run, before it asks: all attempts under way that are not its own are of
    the dead, except those in a batch, which lives on without its process.
    """
    book = _book(ledger)
    with book.turn:
        book.spent.pop(run_name, None)
        with ledger.session() as session:
            rows = session.rows("calls/in_flight", run_name=run_name)
        orphans = [row for row in rows if row["attempt"] not in book.under_way]
        outcomes = [
            Outcome(row["attempt"], row["call_key"], run_name, "unknown", row["reserved_usd"], failure="process_died")
            for row in orphans
        ]
        ledger.record(*outcomes)
    return len(outcomes)


def spend(ledger: Ledger, run_name: str) -> Decimal:
    """What the run has spent, US dollars; never below what the endpoint was asked for."""
    book = _book(ledger)
    with book.turn:
        if run_name in book.spent:
            return book.spent[run_name]
        with ledger.session() as session:
            found: Decimal = session.value("calls/spend", run_name=run_name)
    return found


def _book(ledger: Ledger) -> _Book:
    book: _Book = ledger.memory.setdefault("calls", _Book())
    return book


def _end(ledger: Ledger, attempt: int, **known: Any) -> None:
    book = _book(ledger)
    with book.turn:
        begun = book.under_way.get(attempt) or _begun(ledger, attempt)
        outcome = Outcome(attempt, begun.call_key, begun.run_name, **known)
        ledger.record(outcome)
        book.under_way.pop(attempt, None)
        if begun.run_name in book.spent:
            book.spent[begun.run_name] += outcome.cost_usd - begun.reserved_usd
        if outcome.state not in ("failed", "unknown"):
            book.settled.add(begun.call_key)


def _begun(ledger: Ledger, attempt: int) -> Attempt:
    """An attempt that another process began: it is in a batch."""
    with ledger.session() as session:
        row = session.row("calls/attempt", attempt=attempt)
    assert row is not None  # noqa: S101  attempts are recorded before they are sent
    begun = value(Attempt, {**row, "slot": (), "request": {}})
    return replace(begun, request={})


def _check_cap(ledger: Ledger, run_name: str, reserved_usd: Decimal, cap: Decimal | None) -> None:
    if cap is None:
        return
    spent = spend(ledger, run_name)
    if spent + reserved_usd > cap:
        raise BudgetReached(
            f"Run {run_name!r} has spent or reserved ${spent:.4f}; its next call could cost "
            f"${reserved_usd:.4f}, expected at most ${cap:.4f} in all (black_box.budget_usd). The run is "
            f"paused: the same command with --set "
            f"black_box.budget_usd={float(max(cap * 2, spent + reserved_usd)):.2f} continues it."
        )
