"""Calls to the black box: every answer that was paid for is kept, every cent that may have been spent is
counted.

Protocol of one call: `find` (an answered one is used, never bought again) → `begin_attempt` commits the
attempt with its worst case → send → `settle` commits the raw answer, or `fail_attempt` → read it →
`record_verdict`. Leaves out: sending, retrying, prices (`cyclealign.black_box.endpoint`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from cyclealign.errors import BudgetReached
from cyclealign.records import ChatReply, ChatRequest
from storage import processes
from storage.ledger import Ledger, Session
from storage.processes import ProcessIdentity

SettledState = Literal["answered", "refused", "truncated", "rejected"]
"""`answered`: content to be read. The others are kept and never served as answers."""
NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class CallDescription:
    """A call that is about to be sent."""

    key: str
    run_name: str
    request: ChatRequest
    origin: str
    """Of the endpoint: scheme, host, port."""
    step: int | None = None
    round: int | None = None
    ask: int | None = None


@dataclass(frozen=True, slots=True)
class CallRow:
    """A call that the ledger knows."""

    key: str
    run_name: str
    """Who asked first."""
    state: Literal["open", "answered", "refused", "truncated", "rejected"]
    reply: ChatReply | None
    cost_usd: Decimal | None
    verdict: str | None


def find(ledger: Ledger, call_key: str) -> CallRow | None:
    """The call of this key, None when it was never asked; only `answered` ones may be served as answers."""
    with ledger.session() as session:
        row = session.row("calls/find", call_key=call_key)
    if row is None:
        return None
    return CallRow(row["call_key"], row["run_name"], row["state"], _reply(row), row["cost_usd"], row["verdict"])


def begin_attempt(ledger: Ledger, call: CallDescription, reserved_usd: Decimal, cap: Decimal | None) -> int:
    """Commit that `call` is about to be sent and may cost up to `reserved_usd`; returns the attempt's number.

    The cap is checked in the same transaction, so that concurrent attempts cannot exceed it together.

    Args:
        ledger: The ledger.
        call: What is about to be sent.
        reserved_usd: Worst case of this attempt, US dollars.
        cap: Most that the run may spend, US dollars; None: no limit.

    Raises:
        BudgetReached: the worst case does not fit under the cap; nothing was recorded.
    """
    with ledger.session() as session, session.transaction():
        _check_cap(session, call.run_name, reserved_usd, cap)
        return open_attempt(session, call, reserved_usd)


def open_attempt(session: Session, call: CallDescription, reserved_usd: Decimal) -> int:
    """Within a transaction that checks the cap: note an attempt as in flight; returns its number."""
    me = processes.current()
    session.run("calls/open", **_row(call))
    attempt: int = session.value(
        "calls/begin_attempt",
        call_key=call.key,
        run_name=call.run_name,
        reserved_usd=reserved_usd,
        process_host=me.host,
        process_id=me.pid,
        process_started_at=me.started_at,
    )
    return attempt


def how_many_fit(session: Session, run_name: str, reserves: Sequence[Decimal], cap: Decimal | None) -> int:
    """Within a transaction: how many of the attempts, in order, fit under the cap together.

    Raises:
        BudgetReached: not even the first one does.
    """
    if cap is None:
        return len(reserves)
    _check_cap(session, run_name, reserves[0], cap)
    room, fitting = cap - _spend(session, run_name), 0
    for reserved_usd in reserves:
        room -= reserved_usd
        fitting += room >= 0
    return fitting


def settle(ledger: Ledger, attempt: int, reply: ChatReply, cost_usd: Decimal, state: SettledState = "answered") -> None:
    """Commit what came back for an attempt and what it cost, before anybody reads it."""
    with ledger.session() as session, session.transaction():
        call_key = session.value("calls/settle_attempt", attempt=attempt, cost_usd=cost_usd)
        session.run(
            "calls/settle",
            call_key=call_key,
            state=state,
            raw=reply.raw,
            content=reply.content,
            refusal=reply.refusal,
            finish_reason=reply.finish_reason,
            served_model=reply.model,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cost_usd=cost_usd,
        )


def fail_attempt(
    ledger: Ledger, attempt: int, failure_kind: str, http_status: int | None = None, cost_usd: Decimal = NOTHING
) -> None:
    """Commit that an attempt brought no answer; a timeout may have cost something all the same."""
    with ledger.session() as session:
        session.run(
            "calls/fail_attempt", attempt=attempt, failure=failure_kind, http_status=http_status, cost_usd=cost_usd
        )


def keep_unreadable(ledger: Ledger, attempt: int, raw: str) -> None:
    """Commit a body that came with status 200 and holds no readable answer; it may have been paid for."""
    with ledger.session() as session:
        session.run("calls/keep_unreadable", attempt=attempt, raw=raw)


def reject(ledger: Ledger, attempt: int) -> None:
    """Commit that the call of a failed attempt will never be accepted, so that nobody sends it again."""
    with ledger.session() as session:
        session.run("calls/reject", attempt=attempt)


def record_verdict(ledger: Ledger, call_key: str, verdict: str) -> None:
    """Note what reading an answer said: `accepted`, or why not."""
    with ledger.session() as session:
        session.run("calls/record_verdict", call_key=call_key, verdict=verdict)


def record_verdicts(ledger: Ledger, verdicts: Mapping[str, str]) -> None:
    """The same for many answers by call key, together."""
    with ledger.session() as session, session.transaction():
        for call_key, verdict in verdicts.items():
            session.run("calls/record_verdict", call_key=call_key, verdict=verdict)


def close_orphans(ledger: Ledger) -> int:
    """Charge the attempts that dead processes left in flight at their reserve; returns how many there were.

    Attempts of another host stay in flight, counted at their reserve: nobody here knows whether it lives.
    """
    closed = 0
    with ledger.session() as session, session.transaction():
        for row in session.rows("calls/in_flight_processes"):
            process = ProcessIdentity(row["process_host"], row["process_id"], row["process_started_at"])
            if process.lives() is False:
                closed += len(session.rows("calls/close_orphans", **row))
    return closed


def spend(ledger: Ledger, run_name: str) -> Decimal:
    """What the run has spent, US dollars; never below what the endpoint was asked for."""
    with ledger.session() as session:
        return _spend(session, run_name)


def _spend(session: Session, run_name: str) -> Decimal:
    spent: Decimal = session.value("calls/spend", run_name=run_name)
    return spent


def _check_cap(session: Session, run_name: str, reserved_usd: Decimal, cap: Decimal | None) -> None:
    if cap is None:
        return
    spent = _spend(session, run_name)
    if spent + reserved_usd > cap:
        raise BudgetReached(
            f"Run {run_name!r} has spent or reserved ${spent:.4f}; its next call could cost "
            f"${reserved_usd:.4f}, expected at most ${cap:.4f} in all (black_box.budget_usd). The run is "
            f"paused: the same command with --set "
            f"black_box.budget_usd={float(max(cap * 2, spent + reserved_usd)):.2f} continues it."
        )


def _row(call: CallDescription) -> dict[str, Any]:
    return {
        "call_key": call.key,
        "run_name": call.run_name,
        "purpose": call.request.purpose,
        "model": call.request.model,
        "origin": call.origin,
        "slot": json.dumps(list(call.request.slot)),
        "step": call.step,
        "round": call.round,
        "ask": call.ask,
        "request": json.dumps(call.request.body(), ensure_ascii=False),
    }


def _reply(row: dict[str, Any]) -> ChatReply | None:
    if row["raw"] is None:
        return None
    return ChatReply(
        row["raw"],
        row["content"],
        row["refusal"],
        row["finish_reason"],
        row["served_model"],
        row["prompt_tokens"],
        row["completion_tokens"],
    )
