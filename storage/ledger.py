"""The ledger: sessions on its file, named queries, and the snapshot beside it.

A session is short: one phase of a round, never across something that waits for the network. Leaves out: what
the tables mean (`storage.runs`, `storage.rounds`, …) and who may open the file when (`storage.connection`).
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from cyclealign.errors import LedgerOlder
from storage import queries, reading, snapshots
from storage.connection import Tell, shared

if TYPE_CHECKING:
    import pandas as pd

LOGGER = logging.getLogger("cyclealign.ledger")
WAIT_S = 60.0


class Session:
    """Named queries on an open connection; parameters are given by name, without the dollar sign."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def run(self, query: str, **parameters: Any) -> None:
        """Execute a named query for its effect."""
        self._execute(query, parameters)

    def rows(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """All rows of a named query."""
        cursor = self._execute(query, parameters)
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def row(self, query: str, **parameters: Any) -> dict[str, Any] | None:
        """The first row of a named query, None when there is none."""
        return next(iter(self.rows(query, **parameters)), None)

    def value(self, query: str, **parameters: Any) -> Any:
        """The first column of the first row of a named query, None when there is no row."""
        row = self._execute(query, parameters).fetchone()
        return None if row is None else row[0]

    def frame(self, query: str, **parameters: Any) -> "pd.DataFrame":
        """All rows of a named query as a pandas data frame."""
        return self._execute(query, parameters).df()

    def filled(self, template: str, words: Mapping[str, str]) -> list[tuple[Any, ...]]:
        """All rows of a named template, in which words stand for names that cannot be parameters."""
        return self._connection.execute(queries.fill(template, words)).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything that the block does together, or nothing of it; not to be nested."""
        self._connection.begin()
        try:
            yield
            self._connection.commit()
        except BaseException:
            _roll_back(self._connection)
            raise

    def _execute(self, query: str, parameters: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
        return self._connection.execute(queries.load(query), dict(parameters) or None)


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    try:
        connection.rollback()
    except duckdb.Error as error:  # a failed commit has already rolled back
        LOGGER.debug("nothing to roll back: %s", error)


def _log(message: str) -> None:
    LOGGER.warning("%s", message)


class Ledger:
    """The ledger of a home directory: `ledger.duckdb`, and `snapshot.duckdb` for readers.

    Creating the object touches no file; the first session creates the ledger when there is none.

    Args:
        home: The home directory.
        wait_s: How long a session waits for another process to let go of the file, seconds.
        tell: Called with one line when the waiting takes longer than two seconds; the default logs it.
    """

    def __init__(self, home: Path, wait_s: float = WAIT_S, tell: Tell = _log) -> None:
        self.home = Path(home)
        self.path = self.home / "ledger.duckdb"
        self.snapshot_path = snapshots.beside(self.path)
        self._wait_s = wait_s
        self._tell = tell
        self._shared = shared(self.path)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Use the ledger; nested sessions of a thread share the connection, other threads wait for their
        turn.

        Raises:
            LedgerLocked: another process held the ledger for longer than the waiting time.
            LedgerForeign: the file is not a ledger, or one of a newer version.
            LedgerOnNetwork: the ledger would lie on a network file system.
            StorageFull: the disk is full or read-only.
        """
        with self._shared.use(self._wait_s, self._tell) as connection:
            yield Session(connection)

    def publish_snapshot(self) -> Path:
        """Replace the snapshot by the ledger's present state; readers of the old one keep what they have.

        Raises:
            StorageFull: the disk has no room for a copy of the ledger.
        """
        with self._shared.use(self._wait_s, self._tell) as connection:
            snapshots.publish(connection, self.path)
        return self.snapshot_path

    def query_anywhere(self, statement: str, parameters: Mapping[str, Any] | None = None) -> "tuple[pd.DataFrame, str]":
        """The answer to a reading statement, and where it comes from: `ledger`, or `snapshot of <time>`.

        An older version's ledger is brought up to date first.

        Raises:
            UsageError: the statement is wrong, or would write; or there is no ledger yet.
        """
        try:
            return self._ask(statement, parameters)
        except LedgerOlder:
            with self.session():
                pass
            return self._ask(statement, parameters)

    def _ask(self, statement: str, parameters: Mapping[str, Any] | None) -> "tuple[pd.DataFrame, str]":
        with self._shared.released() as free:
            return reading.ask(self.path if free else None, self.snapshot_path, statement, parameters)

    def close(self) -> None:
        """Let go of the file now instead of a while after the last session."""
        self._shared.close()
