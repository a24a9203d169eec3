"""The ledger of a home: facts go in durably, and everything that was recorded can be asked.

A fact is in the journal of this process when `record` comes back. A session reads the ledger's file and, beyond it,
what stands in all journals: up to the last committed line, while runs go on. Nobody waits for anybody. Leaves out what
the tables mean (`storage.runs`, `storage.rounds`, …), the journals (`storage.journal`) and how they are posted
(`storage.posting`).
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from cyclealign.errors import UsageError
from storage import queries
from storage.faults import LOCKED, translating
from storage.journal import Journal, journals, locked, rows_behind
from storage.posting import TOGETHER, insert, post, posted, quoted, shapes, shapes_of, swap_lock

if TYPE_CHECKING:
    import pandas as pd

JOURNAL_BYTES = 2**20
"""How long the journal of a process becomes before a checkpoint posts it."""
JOURNAL_SHARE = 32
"""A journal may become this part of the ledger, if that is longer: a posting copies the whole file."""
READING = {"SELECT", "EXPLAIN"}
"""Kinds of statements that users may ask; `from`, `describe`, `summarize` and `show` are selects."""


class Session:
    """Named queries on an open connection; parameters are given by name, without the dollar sign."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def rows(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """All rows of a named query; parameters named `this_…` are the words of a template."""
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

    def _execute(self, query: str, parameters: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
        words = {name: word for name, word in parameters.items() if name.startswith("this_")}
        values = {name: value for name, value in parameters.items() if name not in words}
        return self._connection.execute(queries.fill(query, words), values or None)


class Ledger:
    """The ledger of a home directory. Creating the object touches no file; the first fact begins a journal.

    Args:
        home: The home directory.
    """

    def __init__(self, home: Path) -> None:
        self.home = Path(home)
        self.path = self.home / "ledger.duckdb"
        self.journals = self.home / "journal"
        self._here = _here(self.path.absolute())

    @property
    def memory(self) -> dict[str, Any]:
        """What parts of this process know of this home and need not ask again; shared by all its `Ledger` objects."""
        return self._here.memory

    def record(self, *facts: object) -> None:
        """Record facts together, all or none; they are on the disk when this comes back.

        Raises:
            StorageFull: the disk is full or read-only; nothing of them stays.
            LedgerOnNetwork: the home lies on a network file system.
        """
        self._here.journal.append(facts)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Read what was recorded until now, by whichever process; sessions of a process take turns.

        Raises:
            LedgerForeign: the file is not a ledger.
            LedgerError: it cannot be read.
        """
        with self._here.turn, translating(self.path):
            yield Session(self._here.reader.connection())

    def seen_elsewhere(self) -> tuple[object, ...]:
        """Changes whenever another process has recorded something, or a posting took place."""
        mine = self._here.journal.path
        sizes = tuple((one.name, one.stat().st_size) for one in journals(self.journals) if one != mine)
        return (_inode(self.path), *sizes)

    def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> "pd.DataFrame":
        """The answer to a reading statement.

        Raises:
            UsageError: the statement is wrong, or would write; or nothing was recorded here yet.
        """
        self.require()
        with self._here.turn, translating(self.path):
            connection = self._here.reader.connection(threads=os.cpu_count() or 1)
            try:
                statement.encode()  # bytes of the command line that are no text would make DuckDB's binding fail
                kinds = [one.type.name for one in connection.extract_statements(statement)]
                if len(kinds) == 1 and kinds[0] in READING:
                    return connection.execute(statement, dict(parameters) if parameters else None).df()
                problem = f"Found {', '.join(kinds) or 'no statement'} in it."
            except (duckdb.IOException, duckdb.FatalException):
                raise
            except (duckdb.Error, UnicodeEncodeError) as error:
                problem = str(error)
        raise UsageError(f"The statement could not be answered: {problem}\nExpected one reading statement (select …).")

    def is_empty(self) -> bool:
        """Whether nothing was recorded here yet."""
        return not journals(self.journals) and not self.path.exists()  # in this order: a posting renames, then removes

    def require(self) -> None:
        """Let a question to an empty home end with an error.

        Raises:
            UsageError: nothing was recorded here yet.
        """
        if self.is_empty():
            raise UsageError(f"No ledger in {self.home}. Start a run first, or set CYCLEALIGN_HOME to where one is.")

    def post(self, *, unless_taken: bool = False) -> None:
        """Post what all journals hold, so that every SQL client finds it in the file; see `storage.posting.post`.

        Args:
            unless_taken: Leave it to another process that is posting.

        Raises:
            StorageFull: the disk is full or read-only; nothing that was recorded is lost.
        """
        post(self.path.absolute(), self.journals.absolute(), unless_taken=unless_taken)

    def post_if_grown(self) -> None:
        """Post when this process has recorded so much that reading it beside the ledger takes long."""
        journal = self._here.journal
        size = self.path.stat().st_size if self.path.exists() else 0
        if journal.length - self._here.posted_bytes > max(JOURNAL_BYTES, size // JOURNAL_SHARE):
            self._here.posted_bytes = journal.length
            self.post()

    def close(self) -> None:
        """Post everything and give up this process's journal and connection; what comes later opens new ones."""
        with self._here.turn:
            self._here.journal.end()
            self._here.posted_bytes = 0
            self._here.reader.close()
            self._here.memory.clear()
        self.post()


@dataclass
class _Reader:
    """A connection in memory: the ledger attached, and beside its tables what the journals hold beyond it."""

    path: Path
    folder: Path
    _connection: duckdb.DuckDBPyConnection | None = None
    _attached: int | None = None
    """The ledger's inode; a posting puts another file in its place."""
    _ends: dict[str, int] = field(default_factory=dict)
    _threads: int = 1

    def connection(self, threads: int = 1) -> duckdb.DuckDBPyConnection:
        """The connection, up to the last committed line of every journal."""
        while True:
            if self._connection is None or self._attached != _inode(self.path):
                self._open()
            if self._connection is None:
                continue
            try:
                self._take_tails(self._connection)
            except FileNotFoundError:  # a journal was posted meanwhile, and is gone
                self.close()
                continue
            if self._attached == _inode(self.path):
                break
        if threads > self._threads:
            self._connection.execute("set threads = $threads", {"threads": threads})
            self._threads = threads
        return self._connection

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._ends = None, {}

    def _open(self) -> None:
        """One thread until more are asked for: DuckDB's workers, whenever they fall idle, hand the process's free
        memory back to the system (`malloc_trim`), which torch then asks for again: 4 % of a round's time."""
        self.close()
        self._threads = 1
        connection = duckdb.connect(config={"threads": 1})
        with self._nobody_renames():
            self._attached = _inode(self.path)
            if self._attached is not None:
                _attach(connection, self.path)
        if self._attached is None:
            connection.execute("attach ':memory:' as ledger")
            connection.execute("use ledger.main")
            connection.execute(queries.load("schema"))
        else:
            self._ends = posted(connection, self.path, "ledger.")
            connection.execute("use ledger.main")
            if shapes_of(connection) != shapes():  # of another version: posting makes it one of this version
                connection.close()
                post(self.path, self.folder)
                return
        connection.execute("use memory.main")
        connection.execute("create schema tail")
        connection.execute("use memory.tail")
        connection.execute(queries.load("schema"))
        connection.execute("use memory.main")
        for table in shapes():
            connection.execute(queries.fill("ledger/both", {"this_table": table}))
        connection.execute(queries.load("views") + queries.load("views_exhibits"))
        self._connection = connection

    def _take_tails(self, connection: duckdb.DuckDBPyConnection) -> None:
        for journal in journals(self.folder):
            start = self._ends.get(journal.name, 0)
            if journal.stat().st_size > start:
                rows, end = rows_behind(journal, start)
                insert(connection, rows, into="tail.")
                self._ends[journal.name] = end

    @contextmanager
    def _nobody_renames(self) -> Iterator[None]:
        there = self.folder.is_dir() and os.access(self.folder, os.W_OK)  # else this process cannot lock, nor others
        with locked(swap_lock(self.folder), TOGETHER) if there else nullcontext():
            yield


@dataclass
class _Here:
    """What all `Ledger` objects of this process on one home share."""

    journal: Journal
    reader: _Reader
    turn: threading.RLock = field(default_factory=threading.RLock)
    memory: dict[str, Any] = field(default_factory=dict)
    posted_bytes: int = 0


_homes: dict[Path, _Here] = {}
_homes_lock = threading.Lock()


def _here(path: Path) -> _Here:
    with _homes_lock:
        if path not in _homes:
            folder = path.parent / "journal"
            _homes[path] = _Here(Journal(folder), _Reader(path, folder))
        return _homes[path]


def _attach(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Attach the ledger, or a copy of it while another program has it open for writing."""
    attach = "ledger/attach"
    try:
        connection.execute(queries.fill(attach, {"this_path": quoted(path), "this_name": "ledger"}))
    except duckdb.IOException as error:
        if LOCKED not in str(error):
            raise
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copy(path, folder)
            connection.execute(queries.fill(attach, {"this_path": quoted(Path(copy)), "this_name": "ledger"}))


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
