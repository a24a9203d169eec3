"""Who may open a ledger file: a lock beside DuckDB's own, and the marker of those who wait for it.

DuckDB (2.0) reads a file's headers, then locks the file, and trusts what it read. A process that was held up between
the two while another one wrote a checkpoint and closed the file works on what was there before, and its own next
checkpoint makes that last: rows that had been committed are gone. So whoever opens the file has this lock from before
that until after it has closed the file; readers share it. Programs that know nothing of it should read the snapshot.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import psutil

from cyclealign.disk import writing
from cyclealign.errors import LedgerError, StorageFull

FRESH_S = 1.0
"""A marker older than this was left by a process that died waiting."""


class WaitingMarker:
    """The file that processes touch while they wait for the ledger."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def beside(cls, ledger: Path) -> "WaitingMarker":
        """The marker of this ledger file."""
        return cls(Path(f"{ledger}.waiting"))

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


class LedgerLock:
    """The lock of one ledger file, a file beside it that holds the process id of whoever has it.

    The system gives it up when its process and those that were forked from it have ended, however they end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    @classmethod
    def beside(cls, ledger: Path) -> "LedgerLock":
        """The lock of this ledger file."""
        return cls(Path(f"{ledger}.lock"))

    def take(self, *, shared: bool = False) -> bool:
        """Take it unless somebody has it, without waiting; makes the folder and the file where they are missing.

        Args:
            shared: With others that share it.

        Raises:
            StorageFull: the file cannot be made.
            LedgerError: the file system knows no locks.
        """
        file = self._opened()
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise LedgerError(
                f"{self._path} cannot be locked: {error.strerror}. Expected a file system that locks files: set "
                "CYCLEALIGN_HOME to a folder on a local disk."
            ) from error
        self._file = file
        if not shared:
            with contextlib.suppress(OSError):  # a full disk: others then cannot tell who has it
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
        return True

    def _opened(self) -> TextIO:
        try:
            with writing(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                return self._path.open("a+", encoding="ascii")
        except OSError as error:
            raise LedgerError(
                f"{self._path} could not be made: {error.strerror}. Expected a folder for the ledger: set "
                "CYCLEALIGN_HOME to one."
            ) from error

    def release(self) -> None:
        """Let go of it; nothing happens where it is not held."""
        file, self._file = self._file, None
        if file is not None:
            fcntl.flock(file, fcntl.LOCK_UN)  # also in children that were forked meanwhile
            with contextlib.suppress(OSError):
                file.close()

    def holder(self) -> int | None:
        """The process that has it; None where that is not known, as of those who share it."""
        try:
            found = int(self._path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return found if found != os.getpid() and psutil.pid_exists(found) else None


@contextmanager
def locked_for_reading(ledger: Path, *, shared: bool) -> Iterator[bool]:
    """Whether the file may be opened for reading in the block.

    Where the lock cannot be written it may: whom an old header misleads while reading harms nobody.
    """
    lock = LedgerLock.beside(ledger)
    try:
        taken = lock.take(shared=shared)
    except StorageFull:
        yield True
        return
    try:
        yield taken
    finally:
        lock.release()
