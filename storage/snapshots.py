"""The read-only copy of the ledger that any SQL client can keep open, and questions to whichever file
answers.

A checkpoint and a copy of the file took 15 ms for 30 MB where `copy from database` took 600 ms. The copy is
made by another process: reading the file in this one would drop DuckDB's lock on it (see
`storage.connection`).
"""

import subprocess
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from cyclealign.disk import writing
from cyclealign.errors import LedgerError, LedgerOlder, StorageFull, UsageError
from storage import migrations
from storage.connection import POLL_S, WaitingMarker
from storage.faults import LOCKED, translate, translating

if TYPE_CHECKING:
    import pandas as pd

LEDGER = "ledger"
PATIENCE_S = 0.3
"""How long a question waits for the ledger before it turns to the snapshot: a run between two sessions gives way
in a tenth of that."""


def publish(connection: duckdb.DuckDBPyConnection, ledger: Path, snapshot: Path) -> None:
    """Put a copy of the ledger, which `connection` has open, in the snapshot's place.

    Raises:
        StorageFull: the copy could not be written.
    """
    connection.execute("checkpoint")
    with writing(snapshot):
        _copy(ledger, snapshot)


def _copy(ledger: Path, snapshot: Path) -> None:
    new = snapshot.with_suffix(".new")
    copied = subprocess.run(["cp", "-f", str(ledger), str(new)], capture_output=True, text=True, check=False)
    if copied.returncode:
        new.unlink(missing_ok=True)
        raise StorageFull(
            f"The snapshot {snapshot} could not be written: {copied.stderr.strip()}. Expected room for a "
            f"copy of the ledger. Make room, then run the same command again; the ledger is complete."
        )
    new.chmod(0o444)
    new.replace(snapshot)
    Path(f"{snapshot}.wal").unlink(
        missing_ok=True
    )  # left by a client that opened the old snapshot for writing


def ask(
    ledger: Path | None, snapshot: Path, statement: str, parameters: Mapping[str, Any] | None = None
) -> "tuple[pd.DataFrame, str]":
    """The rows of a reading statement, from the ledger if it is free within a moment, else from the snapshot.

    Raises:
        UsageError: the statement is wrong or would write, or neither file is there.
        LedgerOlder: the ledger is free, and lacks a migration.
        LedgerError: the ledger is in use and there is no snapshot yet.
    """
    connection, source = _open(ledger, snapshot)
    with connection:
        older = migrations.older_version(connection)
        if older and source == LEDGER:
            raise LedgerOlder(
                f"{ledger} has schema version {older}, expected {migrations.shipped()[-1].version}."
            )
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
    raise UsageError(
        f"The statement could not be answered: {text}\nExpected one reading statement (select …).{old}"
    )


def _open(ledger: Path | None, snapshot: Path) -> tuple[duckdb.DuckDBPyConnection, str]:
    if ledger is not None and (connection := _open_ledger(ledger)) is not None:
        return connection, LEDGER
    if snapshot.exists():
        written = datetime.fromtimestamp(snapshot.stat().st_mtime).astimezone()
        with translating(snapshot):
            return duckdb.connect(str(snapshot), read_only=True), f"snapshot of {written:%Y-%m-%d %H:%M:%S}"
    if ledger is None or ledger.exists():
        raise LedgerError(
            f"{snapshot.parent} has a ledger in use and no snapshot yet. Expected one of the two to be "
            f"free: a snapshot is written at the run's first checkpoint; ask again then."
        )
    raise UsageError(
        f"No ledger in {snapshot.parent}. Start a run first, or set CYCLEALIGN_HOME to where one is."
    )


def _open_ledger(ledger: Path) -> duckdb.DuckDBPyConnection | None:
    """The ledger for reading; None where there is none, or where nobody gives way."""
    deadline, marker = time.monotonic() + PATIENCE_S, WaitingMarker.beside(ledger)
    while ledger.exists() and time.monotonic() < deadline:
        try:
            connection = duckdb.connect(str(ledger), read_only=True)
        except duckdb.Error as error:
            if LOCKED not in str(error):
                raise translate(error, ledger) or error from None
        else:
            marker.remove()
            return connection
        marker.touch()
        time.sleep(POLL_S)
    marker.remove()
    return None
