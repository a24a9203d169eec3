"""Questions to whichever file answers: the ledger when it is free within a moment, else its snapshot."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from cyclealign.errors import LedgerError, LedgerOlder, StorageFull, UsageError
from storage import migrations, snapshots
from storage.connection import POLL_S
from storage.faults import LOCKED, translate, translating
from storage.ledger_lock import WaitingMarker, locked_for_reading

if TYPE_CHECKING:
    import pandas as pd

LEDGER = "ledger"
PATIENCE_S = 0.3
"""How long a question waits for the ledger before it turns to the snapshot: a run between two sessions gives way
in a tenth of that."""


def ask(
    ledger: Path | None, snapshot: Path, statement: str, parameters: Mapping[str, Any] | None = None
) -> "tuple[pd.DataFrame, str]":
    """The rows of a reading statement, from the ledger if it is free within a moment, else from the snapshot.

    Raises:
        UsageError: the statement is wrong or would write, or neither file is there.
        LedgerOlder: the ledger is free, and lacks a migration.
        LedgerError: the ledger is in use and there is no snapshot yet.
    """
    with _opened(ledger, snapshot) as (connection, source):
        older = migrations.older_version(connection)
        if older and source == LEDGER:
            raise LedgerOlder(f"{ledger} has schema version {older}, expected {migrations.shipped()[-1].version}.")
        try:
            statement.encode()  # bytes of the command line that are no text would make DuckDB's binding fail
            answered = connection.execute(statement, dict(parameters) if parameters else None)
            if answered is not None:
                return answered.df(), source
            text = "There is no statement in it."
        except (duckdb.Error, UnicodeEncodeError) as error:
            text = str(error)
    old = (
        f" {snapshot} was written by an older cyclealign, with schema version {older}: ask again when the ledger is "
        "free, which brings it up to date."
        if older
        else ""
    )
    raise UsageError(f"The statement could not be answered: {text}\nExpected one reading statement (select …).{old}")


@contextmanager
def _opened(ledger: Path | None, snapshot: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    with opened_ledger(ledger) as connection:
        if connection is not None:
            yield connection, LEDGER
            return
    if snapshot.exists():
        with translating(snapshot):
            connection, written = _connected_to_snapshot(snapshot)
            with connection:
                yield connection, f"snapshot of {written:%Y-%m-%d %H:%M:%S}"
        return
    if ledger is None or ledger.exists():
        raise LedgerError(
            f"{snapshot.parent} has a ledger in use and no snapshot yet. Expected one of the two to be "
            f"free: a snapshot is written at the run's first checkpoint; ask again then."
        )
    raise UsageError(f"No ledger in {snapshot.parent}. Start a run first, or set CYCLEALIGN_HOME to where one is.")


@contextmanager
def opened_ledger(ledger: Path | None) -> Iterator[duckdb.DuckDBPyConnection | None]:
    """The ledger for reading; None where there is none, or where nobody gives way.

    Raises:
        LedgerForeign: the file is not a ledger, or is broken.
    """
    if ledger is None or not ledger.exists():
        yield None
        return
    deadline, marker = time.monotonic() + PATIENCE_S, WaitingMarker.beside(ledger)
    while True:
        broken = snapshots.unfinished(ledger)
        with locked_for_reading(ledger, shared=not broken) as ours:
            connection = _connected(ledger, broken=broken) if ours else None
            if connection is not None:
                marker.remove()
                with connection:
                    yield connection
                return
        if time.monotonic() >= deadline:
            break
        marker.touch()
        time.sleep(POLL_S)
    marker.remove()
    yield None


def _connected(ledger: Path, *, broken: bool) -> duckdb.DuckDBPyConnection | None:
    """None where a program that knows nothing of the lock has the file open, or where a checkpoint cannot be undone."""
    try:
        if broken:
            snapshots.undo_broken_checkpoint(ledger)
        elif snapshots.unfinished(ledger):
            return None
        return duckdb.connect(str(ledger), read_only=True)
    except StorageFull:
        return None
    except duckdb.Error as error:
        if LOCKED not in str(error):
            raise translate(error, ledger) or error from None
    return None


def _connected_to_snapshot(snapshot: Path) -> tuple[duckdb.DuckDBPyConnection, datetime]:
    """The snapshot for reading, and when it was written.

    DuckDB opens a file once for its headers and once for the rest: it is opened again when another snapshot came
    between the two.
    """
    while True:
        opened = snapshot.stat()
        try:
            connection = duckdb.connect(str(snapshot), read_only=True)
        except duckdb.Error:
            if snapshot.stat().st_ino == opened.st_ino:
                raise
            continue
        if snapshot.stat().st_ino == opened.st_ino:
            return connection, datetime.fromtimestamp(opened.st_mtime).astimezone()
        connection.close()
