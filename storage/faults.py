"""Translates DuckDB's exceptions into our own errors, in one place; errors in our SQL pass unchanged."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from cyclealign.errors import LedgerError, LedgerForeign, StorageFull

LOCKED = "Could not set lock"
NO_ROOM = ("No space left", "File too large", "Disk quota exceeded", "Read-only file system", "Permission denied")
NOT_A_LEDGER = ("not a valid DuckDB database", "Could not read enough bytes", "orrupt", "checksum", "newer version")


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """Raise our errors instead of DuckDB's for whatever the block does with the database file at `path`.

    Raises:
        LedgerForeign: the file is not a DuckDB database, is broken, or was written by a newer DuckDB.
        StorageFull: the disk is full or not writable.
        LedgerError: the file cannot be read or written for another reason.
    """
    try:
        yield
        return
    except duckdb.Error as error:
        caught = error
    raise translate(caught, path) or caught


def translate(error: duckdb.Error, path: Path) -> LedgerError | None:
    """Our error for a DuckDB error about the file at `path`; None for errors in SQL or data."""
    text = str(error).splitlines()[0]
    if LOCKED in text:
        return LedgerError(f"{path} is held by another program ({text}). Close that program, or try again.")
    if any(sign in text for sign in NO_ROOM):
        return StorageFull(
            f"{path} cannot be written: {text}. Expected a writable disk with free space. What was "
            f"committed is safe: make room or correct the permissions, then run the same command again."
        )
    if any(sign in text for sign in NOT_A_LEDGER) or isinstance(error, duckdb.SerializationException):
        return LedgerForeign(
            f"{path} is not a usable ledger: {text}. Expected a DuckDB database written by cyclealign. Move "
            f"the file and the .wal beside it away, or choose another home with CYCLEALIGN_HOME."
        )
    if isinstance(error, duckdb.IOException | duckdb.FatalException):
        return LedgerError(f"{path} cannot be used: {text}. What was committed is safe.")
    return None
