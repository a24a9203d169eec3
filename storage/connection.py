"""The one connection of this process to a ledger file.

DuckDB lets one process at a time open a file, and opening costs tens of milliseconds. So the connection is
opened when somebody needs it, kept through the pauses of a round, and given up at once when another process
says that it waits: it touches `ledger.duckdb.waiting` beside the file. Whoever gave way lets the waiting process in
first. Programs that know nothing of this read the snapshot, or come in during longer pauses.

Whoever opens the file holds the ledger's lock (`storage.ledger_lock`). The file is closed without a checkpoint: what
was committed since the last one is in the write-ahead log beside it. `storage.snapshots` writes checkpoints.

Trap: POSIX file locks belong to the process, and closing *any* descriptor of the file drops them. Nothing in
this process may open the ledger file besides DuckDB while a connection is open.
"""

import atexit
import contextlib
import logging
import re
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from cyclealign.disk import writing
from cyclealign.errors import LedgerError, LedgerForeign, LedgerLocked
from storage import migrations, snapshots
from storage.faults import LOCKED, translating
from storage.file_systems import require_local
from storage.ledger_lock import LedgerLock, WaitingMarker
from storage.processes import describe

LOGGER = logging.getLogger("cyclealign.ledger")
LINGER_S = 5.0
"""How long an unused connection is kept for the next session: most pauses are shorter, and in longer ones programs that
know nothing of the marker get in."""
POLL_S = 0.02
GIVE_WAY_S = 0.25
TELL_AFTER_S = 2.0
THREADS = 1
"""The thread that asks, and none beside it. DuckDB's workers, whenever they fall idle, hand the process's free memory
back to the system (`malloc_trim`), which torch then asks for again: 4 % of a round's time. Questions of the command
line open the file by themselves, with all threads (`storage.reading`)."""
CONFIGURATION: dict[str, str | bool | int | float | list[str]] = {"threads": THREADS, "wal_autocheckpoint": "1TB"}
"""DuckDB writes no checkpoint by itself."""
LOG_BYTES = 2**20
"""How long the write-ahead log becomes between two snapshots before its rows are written into the file."""
LOG_SHARE = 32
"""A log may become this part of the file, if that is longer: a checkpoint copies the whole file."""
CLOSED_SHARE = 16
"""A log may be this part of the above when the file is closed: whoever opens the file next reads all of it."""

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


class SharedConnection:
    """Opens, keeps and gives up the connection; threads of this process take turns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.RLock()
        self._waiting = WaitingMarker.beside(path)
        self._lock = LedgerLock.beside(path)
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._users = 0
        self._keep_until = 0.0
        self._gave_way = False
        self._local = False
        self._holder: int | None = None
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
                if self._users == 1 and self._connection is not None:
                    self._shorten_log(self._connection)
            except duckdb.FatalException:
                self._drop_broken()
                raise
            finally:
                if snapshots.unfinished(self.path):
                    self._drop_broken()
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
                try:
                    self._shorten_log(connection, CLOSED_SHARE)
                finally:
                    with translating(self.path):
                        self._let_go(connection)

    def _open(self, wait_s: float, tell: Tell) -> duckdb.DuckDBPyConnection:
        if not self._local:
            require_local(self.path)
            self._local = True
        if self._gave_way:
            self._let_the_waiting_in()
        connection = self._connect(wait_s, tell)
        try:
            connection.execute("pragma disable_checkpoint_on_shutdown")
            if migrations.migrate(connection, self.path):  # not to be read from the log each time
                snapshots.publish(connection, self.path)
        except BaseException:
            self._let_go(connection)
            raise
        return connection

    def _let_go(self, connection: duckdb.DuckDBPyConnection) -> None:
        try:
            connection.close()
        finally:
            self._lock.release()

    def _connect(self, wait_s: float, tell: Tell) -> duckdb.DuckDBPyConnection:
        started, told, waited = time.monotonic(), False, False
        while (connection := self._try_to_connect()) is None:
            passed, waited = time.monotonic() - started, True
            if passed >= wait_s:
                raise _locked(self.path, self._holder, passed)
            if passed >= TELL_AFTER_S and not told:
                told = True
                tell(f"Waiting for {self.path}, which {_described(self._holder)} holds.")
            self._waiting.touch()
            time.sleep(POLL_S)
        if waited:
            self._waiting.remove()
        return connection

    def _try_to_connect(self) -> duckdb.DuckDBPyConnection | None:
        """None: another process has the file; `_holder` is its id."""
        if not self._lock.take():
            self._holder = self._lock.holder()
            return None
        try:
            if not self.path.exists():
                _create(self.path)
            snapshots.undo_broken_checkpoint(self.path)
            return duckdb.connect(str(self.path), config=CONFIGURATION)
        except BaseException as error:
            self._lock.release()
            if isinstance(error, duckdb.IOException) and LOCKED in str(error):
                self._holder = _holder(str(error))
                return None
            raise

    def _shorten_log(self, connection: duckdb.DuckDBPyConnection, share: int = 1) -> None:
        """Where there is room for it: what is in the log is as safe there."""
        length = snapshots.log_bytes(self.path)
        if length * share <= LOG_BYTES:
            return
        size = self.path.stat().st_size
        if length * share > size // LOG_SHARE and shutil.disk_usage(self.path.parent).free > size + 2 * length:
            try:
                with translating(self.path):
                    snapshots.publish(connection, self.path)
            except LedgerError as error:
                LOGGER.warning("%s", error)

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
                self._let_go(connection)

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
    with writing(path), translating(path):
        if snapshots.log_of(path).exists():
            raise LedgerForeign(
                f"{snapshots.log_of(path)} is there without {path}, whose last rows it holds. Expected both or "
                "neither: put the ledger back beside it, or move the log away as well."
            )
        new = path.with_suffix(".new")
        for leftover in (new, snapshots.log_of(new)):
            leftover.unlink(missing_ok=True)
        with duckdb.connect(str(new)) as connection:
            migrations.migrate(connection, path)
        new.replace(path)


def _holder(text: str) -> int | None:
    found = re.search(r"\(PID (\d+)\)", text)
    return int(found[1]) if found else None


def _described(holder: int | None) -> str:
    return "another process" if holder is None else describe(holder)


def _locked(path: Path, holder: int | None, waited_s: float) -> LedgerLocked:
    return LedgerLocked(
        f"{path} is held by {_described(holder)} after waiting {waited_s:.0f} s. Expected it to be free: DuckDB "
        f"lets one process in at a time. Close that process, or query {snapshots.beside(path)} instead."
    )


def _end(reference: "weakref.ref[SharedConnection]") -> None:
    found = reference()
    if found is not None:
        found.end()
