"""The one connection of this process to a ledger file.

DuckDB lets one process at a time open a file, and opening costs tens of milliseconds. So the connection is
opened when somebody needs it, kept through the pauses of a round, and given up at once when another process
says that it waits: it touches `ledger.waiting` beside the file. Whoever gave way lets the waiting process in
first. Programs that know nothing of this read the snapshot, or come in during longer pauses.

Trap: POSIX file locks belong to the process, and closing *any* descriptor of the file drops them. Nothing in
this process may open the ledger file besides DuckDB while a connection is open.
"""

import atexit
import contextlib
import fcntl
import logging
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from cyclealign.disk import writing
from cyclealign.errors import LedgerError, LedgerLocked
from storage import migrations
from storage.faults import LOCKED, translating
from storage.file_systems import require_local
from storage.processes import describe

LOGGER = logging.getLogger("cyclealign.ledger")
LINGER_S = 5.0
"""How long an unused connection is kept for the next session: most pauses are shorter, and in longer ones programs that
know nothing of the marker get in."""
POLL_S = 0.02
FRESH_S = 1.0
"""A marker older than this was left by a process that died waiting."""
GIVE_WAY_S = 0.25
TELL_AFTER_S = 2.0

Tell = Callable[[str], None]
_shared: "weakref.WeakValueDictionary[Path, SharedConnection]" = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


def shared(path: Path) -> "SharedConnection":
    """The connection that all users of this file in this process share; nothing is opened yet."""
    path = path.absolute()
    with _shared_lock:
        found = _shared.get(path)
        if found is None:
            found = _shared[path] = SharedConnection(path)
        return found


class WaitingMarker:
    """The file that processes touch while they wait for the ledger."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def beside(cls, ledger: Path) -> "WaitingMarker":
        """The marker of this ledger file."""
        return cls(ledger.with_suffix(".waiting"))

    def touch(self) -> None:
        """Say that this process waits; where that cannot be written, the wait takes longer."""
        with contextlib.suppress(OSError):
            self._path.touch()

    def remove(self) -> None:
        """Say that this process got in; others that still wait touch the marker again."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def fresh(self) -> bool:
        """Whether another process waits now."""
        try:
            return time.time() - self._path.stat().st_mtime < FRESH_S
        except FileNotFoundError:
            return False


class SharedConnection:
    """Opens, keeps and gives up the connection; threads of this process take turns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.RLock()
        self._waiting = WaitingMarker.beside(path)
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._users = 0
        self._keep_until = 0.0
        self._gave_way = False
        self._local = False
        self._closer: threading.Thread | None = None
        self._ending = threading.Event()
        atexit.register(_end, weakref.ref(self))

    @contextmanager
    def use(self, wait_s: float, tell: Tell) -> Iterator[duckdb.DuckDBPyConnection]:
        """The open connection, for one thread at a time; nested uses share it.

        Raises:
            LedgerLocked: another process held the file for longer than `wait_s` seconds.
            LedgerForeign: the file is not a ledger.
            LedgerOnNetwork: the file would lie on a network file system.
            StorageFull: the disk is full or read-only.
        """
        with self._turn, translating(self.path):
            if self._connection is None:
                self._connection = self._open(wait_s, tell)
            self._users += 1
            try:
                yield self._connection
            except duckdb.FatalException:
                self._drop_broken()
                raise
            finally:
                self._users -= 1
                if self._users == 0:
                    self._keep_or_close()

    @contextmanager
    def released(self) -> Iterator[bool]:
        """Keep this process's connection closed for the block; False when this thread is using it."""
        with self._turn:
            if self._users == 0:
                self.close()
            yield self._users == 0

    def close(self) -> None:
        """Close the connection now unless it is in use."""
        with self._turn:
            if self._connection is not None and self._users == 0:
                connection, self._connection = self._connection, None
                with translating(self.path):
                    connection.close()

    def _open(self, wait_s: float, tell: Tell) -> duckdb.DuckDBPyConnection:
        if not self._local:
            require_local(self.path)
            self._local = True
        if self._gave_way:
            self._let_the_waiting_in()
        if not self.path.exists():
            _create(self.path)
        connection = self._connect(wait_s, tell)
        try:
            migrations.migrate(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, wait_s: float, tell: Tell) -> duckdb.DuckDBPyConnection:
        started, told, waited = time.monotonic(), False, False
        while True:
            try:
                connection = duckdb.connect(str(self.path))
                break
            except duckdb.IOException as error:
                text = str(error)
                if LOCKED not in text:
                    raise
            passed, waited = time.monotonic() - started, True
            if passed >= wait_s:
                raise _locked(self.path, text, passed)
            if passed >= TELL_AFTER_S and not told:
                told = True
                tell(f"Waiting for {self.path}, which {_holder(text)} holds.")
            self._waiting.touch()
            time.sleep(POLL_S)
        if waited:
            self._waiting.remove()
        return connection

    def _keep_or_close(self) -> None:
        self._keep_until = time.monotonic() + LINGER_S
        if self._waiting.fresh():
            self._give_way()
        elif self._connection is not None and self._closer is None:
            self._closer = threading.Thread(target=self._close_when_idle, name="ledger-closer", daemon=True)
            self._closer.start()

    def _close_when_idle(self) -> None:
        while not self._ending.wait(POLL_S):
            with self._turn:
                if self._connection is not None and self._users == 0:
                    self._close_if_due()
                if self._connection is None:
                    self._closer = None
                    return

    def _close_if_due(self) -> None:
        try:
            if self._waiting.fresh():
                self._give_way()
            elif time.monotonic() >= self._keep_until:
                self.close()
        except LedgerError as error:  # what was committed stays in the write-ahead log
            LOGGER.warning("%s", error)

    def _drop_broken(self) -> None:
        """DuckDB answers nothing more after a fatal error; the next session opens the file again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(duckdb.Error):
                connection.close()

    def end(self) -> None:
        """Close for good, at the process's exit; a thread left over would make DuckDB report leaks."""
        self._ending.set()
        if self._closer is not None:
            self._closer.join(timeout=1)
        self.close()

    def _give_way(self) -> None:
        self.close()
        self._gave_way = True

    def _let_the_waiting_in(self) -> None:
        self._gave_way = False
        deadline = time.monotonic() + GIVE_WAY_S
        while self._waiting.fresh() and time.monotonic() < deadline:
            time.sleep(POLL_S / 4)


def _create(path: Path) -> None:
    """Put a complete, migrated file in place; a process killed meanwhile leaves no half-written ledger."""
    with writing(path), translating(path), _creation_lock(path):
        if path.exists():
            return
        new = path.with_suffix(".new")
        for leftover in (new, Path(f"{new}.wal")):
            leftover.unlink(missing_ok=True)
        with duckdb.connect(str(new)) as connection:
            migrations.migrate(connection, path)
        new.replace(path)


@contextmanager
def _creation_lock(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.with_suffix(".creating").open("w")
    except OSError as error:
        text = f"IO Error: {error.strerror}"
    else:
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        return
    raise duckdb.IOException(text)


def _holder(text: str) -> str:
    found = re.search(r"\(PID (\d+)\)", text)
    return describe(int(found[1])) if found else "another process"


def _locked(path: Path, text: str, waited_s: float) -> LedgerLocked:
    return LedgerLocked(
        f"{path} is held by {_holder(text)} after waiting {waited_s:.0f} s. Expected it to be free: DuckDB "
        f"lets one process in at a time. Close that process, or query {path.with_name('snapshot.duckdb')} "
        "instead."
    )


def _end(reference: "weakref.ref[SharedConnection]") -> None:
    found = reference()
    if found is not None:
        found.end()
