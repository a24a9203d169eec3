"""Batches: plans to send calls through a Batch API, recorded before anything is sent, and how far each one got.

The attempts in a batch stay in flight, at their reserve, until its answers are here: they outlive the process
that made them. Leaves out the provider (`cyclealign.black_box.batches`) and the order of things
(`tasks.asking`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from storage import calls
from storage.calls import Attempt
from storage.facts import fact
from storage.ledger import Ledger


@fact("batch_events")
@dataclass(frozen=True, slots=True)
class BatchEvent:
    """Something that happened to a batch; the run, the endpoint and the calls belong to the plan alone."""

    batch: str
    """Our name for it."""
    state: Literal["planned", "uploaded", "submitted", "collected", "failed"]
    run_name: str | None = None
    origin: str | None = None
    calls: tuple[dict[str, Any], ...] | None = None
    """`call_key` and `attempt` of each."""
    input_file_id: str | None = None
    provider_batch_id: str | None = None
    failure: str | None = None


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


def plan(ledger: Ledger, wanted: Sequence[Attempt], cap: Decimal | None) -> int:
    """Record a batch of as many of the calls, in order, as fit under the cap; returns how many those are.

    Raises:
        BudgetReached: not even the first one fits; nothing was recorded.
    """
    first = wanted[0]
    fitting = calls.how_many_fit(ledger, first.run_name, [one.reserved_usd for one in wanted], cap)
    attempts = [calls.numbered(one) for one in wanted[:fitting]]
    named = json.dumps([first.run_name, first.origin, [one.attempt for one in attempts]])
    name = f"cyclealign-{hashlib.sha256(named.encode()).hexdigest()[:16]}"
    held = tuple({"call_key": one.call_key, "attempt": one.attempt} for one in attempts)
    calls.take_on(ledger, attempts, BatchEvent(name, "planned", first.run_name, first.origin, held))
    return len(attempts)


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
    ledger.record(BatchEvent(batch, "uploaded", input_file_id=input_file_id))


def submitted(ledger: Ledger, batch: str, provider_batch_id: str) -> None:
    """Note that it was made at the provider."""
    ledger.record(BatchEvent(batch, "submitted", provider_batch_id=provider_batch_id))


def end(ledger: Ledger, batch: str, failure: str | None = None) -> None:
    """Note that nothing more will come of it: its answers are here, or it failed."""
    ledger.record(BatchEvent(batch, "collected" if failure is None else "failed", failure=failure))
