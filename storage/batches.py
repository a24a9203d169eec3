"""Batches: plans to send calls through a Batch API, committed before anything is sent, and how far each one got.

The attempts in a batch stay in flight, at their reserve, until its answers are here: they outlive the process
that made them. Leaves out the provider (`cyclealign.black_box.batch_endpoint`) and the order of things
(`tasks.asking.batching`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from storage import calls
from storage.calls import CallDescription
from storage.ledger import Ledger


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call that is to go into a batch, and its worst case in US dollars."""

    call: CallDescription
    reserved_usd: Decimal


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch whose answers are not here yet."""

    batch: str
    """Our name for it."""
    state: Literal["planned", "uploaded", "submitted"]
    input_file_id: str | None
    provider_batch_id: str | None
    planned_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class BatchCall:
    """A call in a batch."""

    call_key: str
    attempt: int
    model: str
    body: dict[str, Any]
    reserved_usd: Decimal
    in_flight: bool
    """Whether its outcome is still to come."""


def plan(ledger: Ledger, wanted: Sequence[PlannedCall], cap: Decimal | None) -> int:
    """Commit a batch of as many of the calls, in order, as fit under the cap; returns how many those are.

    Raises:
        BudgetReached: not even the first one fits; nothing was recorded.
    """
    first = wanted[0].call
    with ledger.session() as session, session.transaction():
        reserves = [one.reserved_usd for one in wanted]
        chosen = wanted[: calls.how_many_fit(session, first.run_name, reserves, cap)]
        attempts = [calls.open_attempt(session, one.call, one.reserved_usd) for one in chosen]
        name = _name(attempts, first)
        session.run("batches/plan", batch=name, run_name=first.run_name, origin=first.origin)
        rows = [{"call_key": one.call.key, "attempt": attempt} for one, attempt in zip(chosen, attempts, strict=True)]
        session.run("batches/put_calls", batch=name, rows=rows)
    return len(chosen)


def unfinished(ledger: Ledger, run_name: str, origin: str, call_keys: Sequence[str] = ()) -> list[BatchRow]:
    """Batches at an endpoint whose answers are not here yet, oldest first.

    They are the run's own, and those that another run submitted and that hold one of the calls.
    """
    with ledger.session() as session:
        rows = session.rows("batches/unfinished", run_name=run_name, origin=origin, call_keys=list(call_keys))
    return [BatchRow(**row) for row in rows]


def calls_of(ledger: Ledger, batch: str) -> list[BatchCall]:
    """The calls in a batch."""
    with ledger.session() as session:
        rows = session.rows("batches/calls", batch=batch)
    return [BatchCall(body=json.loads(row.pop("request")), **row) for row in rows]


def uploaded(ledger: Ledger, batch: str, input_file_id: str) -> None:
    """Note that its file is at the provider."""
    with ledger.session() as session:
        session.run("batches/uploaded", batch=batch, input_file_id=input_file_id)


def submitted(ledger: Ledger, batch: str, provider_batch_id: str) -> None:
    """Note that it was made at the provider."""
    with ledger.session() as session:
        session.run("batches/submitted", batch=batch, provider_batch_id=provider_batch_id)


def end(ledger: Ledger, batch: str, failure: str | None = None) -> None:
    """Note that nothing more will come of it."""
    state = "collected" if failure is None else "failed"
    with ledger.session() as session:
        session.run("batches/ended", batch=batch, state=state, failure=failure)


def _name(attempts: Sequence[int], first: CallDescription) -> str:
    """Attempts are numbered once per ledger, calls are their own digests: no two batches share a name."""
    text = json.dumps([list(attempts), first.key, first.run_name])
    return f"cyclealign-{hashlib.sha256(text.encode()).hexdigest()[:24]}"
