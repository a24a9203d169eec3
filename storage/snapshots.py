"""Checkpoints of the ledger file, and the copy that any SQL client can keep open: the file as of the last of them.

DuckDB (2.0) writes a checkpoint partly over blocks that the last one still needs. A process that is killed within such
a write, or a disk that is full, leaves a file that cannot be read. So a checkpoint begins only when the snapshot is a
copy of the file as of the last one: with the write-ahead log, which stays until the checkpoint is complete, nothing is
lost.

A checkpoint and a copy of the file took 15 ms for 30 MB where `copy from database` took 600 ms. The copy is
made by another process: reading the file in this one would drop DuckDB's lock on it (see
`storage.connection`).
"""

import fcntl
import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import duckdb

from cyclealign.disk import flush, writing
from cyclealign.errors import StorageFull
from storage.faults import LOCKED

LOGGER = logging.getLogger("cyclealign.ledger")
HEADERS = 3 * 4096
"""Bytes of a DuckDB file that say which checkpoint is the last; they are written once its blocks are on the disk."""


def beside(ledger: Path) -> Path:
    """The snapshot of a ledger file."""
    return ledger.with_name("snapshot.duckdb")


def log_of(ledger: Path) -> Path:
    """DuckDB's write-ahead log of a ledger file."""
    return Path(f"{ledger}.wal")


def log_bytes(ledger: Path) -> int:
    """How long the write-ahead log is; 0 when there is none."""
    try:
        return log_of(ledger).stat().st_size
    except FileNotFoundError:
        return 0


def publish(connection: duckdb.DuckDBPyConnection, ledger: Path) -> None:
    """Write a checkpoint of the ledger, which `connection` has open, and put a copy in the snapshot's place.

    Whatever stops it, the connection is to be closed if the checkpoint is `unfinished` then.

    Raises:
        StorageFull: there is no room for a checkpoint or the copy.
    """
    snapshot, begun = beside(ledger), _begun(ledger)
    with writing(snapshot):
        _renew(snapshot, ledger)
        if log_bytes(ledger):
            begun.touch()
            flush(ledger.parent)
            connection.execute("checkpoint")
            begun.unlink()
            flush(ledger.parent)
            _replace(snapshot, ledger)


def unfinished(ledger: Path) -> bool:
    """Whether a checkpoint was begun that is not complete, or not known to be."""
    return _begun(ledger).exists()


def undo_broken_checkpoint(ledger: Path) -> None:
    """Put the file back to its last complete checkpoint if a later one was cut off; the log has what came after.

    To be called with the ledger's lock.

    Raises:
        duckdb.IOException: another program has the file open, as DuckDB says it.
        StorageFull: there is no room for a second copy of the file.
    """
    begun, snapshot = _begun(ledger), beside(ledger)
    if not begun.exists():
        return
    with writing(ledger):
        if ledger.exists() and snapshot.exists():
            with _nobody_has_it_open(ledger) as opened:
                if opened.read(HEADERS) == _headers(snapshot):
                    _copy(snapshot, ledger, mode=ledger.stat().st_mode & 0o777)
                    LOGGER.warning("A checkpoint of %s was cut off and has been undone; nothing is lost.", ledger)
        begun.unlink()
        flush(ledger.parent)


@contextmanager
def _nobody_has_it_open(ledger: Path) -> Iterator[BinaryIO]:
    """The file under the lock that DuckDB takes: a program that keeps the old file would remove the new one's log."""
    with ledger.open("r+b") as opened:
        try:
            fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise duckdb.IOException(f"{LOCKED} on {ledger}: {error.strerror}") from error
        yield opened


def _begun(ledger: Path) -> Path:
    """The file that is there from before a checkpoint begins until after it is complete."""
    return Path(f"{ledger}.checkpoint")


def _headers(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(HEADERS)


def _renew(snapshot: Path, ledger: Path) -> None:
    """Make the snapshot a copy of the ledger; it is one when it has its size and time, since rows go to the log."""
    ours, theirs = ledger.stat(), snapshot.stat() if snapshot.exists() else None
    if theirs is None or (ours.st_size, ours.st_mtime_ns) != (theirs.st_size, theirs.st_mtime_ns):
        _replace(snapshot, ledger)


def _replace(snapshot: Path, ledger: Path) -> None:
    _copy(ledger, snapshot, mode=0o444)
    log_of(snapshot).unlink(missing_ok=True)  # left by a client that opened the old snapshot for writing


def _copy(source: Path, target: Path, mode: int) -> None:
    """Put a copy with the same time in the target's place at once."""
    new = target.with_suffix(".new")
    new.unlink(missing_ok=True)  # the copying process of one that was killed may still write into it
    copied = subprocess.run(["cp", "-fp", str(source), str(new)], capture_output=True, text=True, check=False)
    if copied.returncode:
        new.unlink(missing_ok=True)
        problem = copied.stderr.strip() or f"cp ended with {copied.returncode}"
        raise StorageFull(
            f"{target} could not be written: {problem}. Expected room for a copy of the ledger. Make "
            "room, then run the same command again; nothing that was recorded is lost."
        )
    new.chmod(mode)
    flush(new)
    new.replace(target)
    flush(target.parent)
