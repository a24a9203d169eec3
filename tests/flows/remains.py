"""What a run's ledger holds at a moment at which nobody has it open, read from a copy.

The copy is taken with the write-ahead log beside it and opened in its place: whoever continues the run finds the very
files that the killed process left.
"""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import duckdb
from storage.snapshots import undo_broken_checkpoint

from tests.flows.asked import call_of

CALLS = "select request, state from api_calls where run_name = ?"
ATTEMPTS = """
    select api_attempts.attempt, api_calls.request, api_attempts.state,
        coalesce(api_attempts.cost_usd, api_attempts.reserved_usd)
    from api_attempts join api_calls using (call_key)
    where api_attempts.run_name = ?
"""
ROUNDS = "select step, round, state from rounds where run_name = ?"


@dataclass(frozen=True)
class Remains:
    """One run's rows. Calls are told as the judge tells them: by a digest of their body."""

    calls: Counter[str] = field(default_factory=Counter)
    """How many calls of the ledger have this body; mostly one."""
    answered: Counter[str] = field(default_factory=Counter)
    """How many of them have a committed answer."""
    attempts: Counter[str] = field(default_factory=Counter)
    in_flight: dict[int, str] = field(default_factory=dict)
    """Attempts without an outcome, by number: their call. The process that made them is gone."""
    spend_usd: Decimal = Decimal(0)
    rounds: dict[tuple[int, int], str] = field(default_factory=dict)
    """State by step and round."""


def remains(home: Path, run_name: str) -> Remains:
    """What is committed of the run; empty before there is a ledger."""
    with opened_copy(home) as connection:
        if connection is None:
            return Remains()
        calls, attempts, rounds = (
            connection.execute(query, [run_name]).fetchall() for query in (CALLS, ATTEMPTS, ROUNDS)
        )
    bodies = [(_call(request), state) for request, state in calls]
    tries = {number: (_call(request), state) for number, request, state, _ in attempts}
    return Remains(
        calls=Counter(call for call, _ in bodies),
        answered=Counter(call for call, state in bodies if state == "answered"),
        attempts=Counter(call for call, _ in tries.values()),
        in_flight={number: call for number, (call, state) in tries.items() if state == "in_flight"},
        spend_usd=sum((usd for *_, usd in attempts), Decimal(0)),
        rounds={(step, round_): state for step, round_, state in rounds},
    )


@contextmanager
def opened_copy(home: Path) -> Iterator[duckdb.DuckDBPyConnection | None]:
    """A copy of the home's ledger; None when there is none."""
    ledger = home / "ledger.duckdb"
    if not ledger.exists():
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        for path in (*home.glob("ledger.*"), *home.glob("snapshot.duckdb")):
            shutil.copy(path, folder)
        undo_broken_checkpoint(Path(folder) / ledger.name)
        with duckdb.connect(str(Path(folder) / ledger.name)) as connection:
            yield connection


def _call(request: str) -> str:
    return call_of(json.loads(request))
