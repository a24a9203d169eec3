"""What a run's ledger and journals hold at a moment, read from a copy; and what a ledger is made to forget."""

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

from storage.ledger import Ledger
from tests.flows.asked import call_of

CALLS = "select request, state from api_calls where run_name = $run_name"
ATTEMPTS = """
    select api_attempts.attempt, api_calls.request, api_attempts.state,
        coalesce(api_attempts.cost_usd, api_attempts.reserved_usd)::varchar
    from api_attempts join api_calls using (call_key)
    where api_attempts.run_name = $run_name
"""
ROUNDS = "select step, round, state from rounds where run_name = $run_name"


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
    if not (home / "journal").exists():
        return Remains()
    with copied(home) as ledger:
        if ledger.is_empty():
            return Remains()
        calls, attempts, rounds = (
            list(ledger.query(query, {"run_name": run_name}).itertuples(index=False, name=None))
            for query in (CALLS, ATTEMPTS, ROUNDS)
        )
    bodies = [(_call(request), state) for request, state in calls]
    tries = {number: (_call(request), state) for number, request, state, _ in attempts}
    return Remains(
        calls=Counter(call for call, _ in bodies),
        answered=Counter(call for call, state in bodies if state == "answered"),
        attempts=Counter(call for call, _ in tries.values()),
        in_flight={number: call for number, (call, state) in tries.items() if state == "in_flight"},
        spend_usd=sum((Decimal(usd) for *_, usd in attempts), Decimal(0)),
        rounds={(step, round_): state for step, round_, state in rounds},
    )


@contextmanager
def copied(home: Path) -> Iterator[Ledger]:
    """A copy of the home's ledger with its journals: the next life finds the very files that the killed one left."""
    with tempfile.TemporaryDirectory() as folder:
        for path in home.glob("ledger.*"):
            shutil.copy(path, folder)
        shutil.copytree(home / "journal", Path(folder) / "journal", ignore=shutil.ignore_patterns("*.new"))
        yield Ledger(Path(folder))


def _call(request: str) -> str:
    return call_of(json.loads(request))


def forget(home: Path, *statements: str) -> None:
    """Take facts away from the posted ledger, as if they had never been recorded."""
    Ledger(home).close()
    (home / "ledger.duckdb").chmod(0o600)
    with duckdb.connect(str(home / "ledger.duckdb")) as connection:
        for statement in statements:
            connection.execute(statement)
    Ledger(home).close()
