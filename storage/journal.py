"""Journals: what each process has to record, in order, as it happens.

A process that works in a home appends to a file of its own, `journal/<host>-<pid>-<start>.jsonl`. A line is a
transaction, `{"at": …, "facts": [[table, row], …]}`: one `write` and one `fdatasync`. A last line without its line end
did not happen. The process holds a lock on its journal for as long as it lives, so a journal whose lock is free belongs
to the dead. Leaves out what becomes of journals (`storage.ledger`).
"""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cyclealign.disk import flush, writing
from storage.facts import entry
from storage.file_systems import require_local

Rows = dict[str, list[dict[str, Any]]]
"""Rows by table, each with the time of its transaction under `at`."""
AT = "at"


@dataclass
class Journal:
    """The journal of this process in one home; nothing is written before the first fact.

    Args:
        folder: Where the journals of the home are.
    """

    folder: Path
    path: Path | None = None
    _descriptor: int = -1
    length: int = 0
    """How long it is."""
    _at: float = 0.0
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def append(self, facts: Iterable[object]) -> None:
        """Record facts together; they are on the disk when this comes back.

        Raises:
            StorageFull: they are not, because the disk is full or read-only; nothing of them stays.
            LedgerOnNetwork: the home lies on a network file system.
        """
        entries = b",".join(entry(one) for one in facts)
        if not entries:
            return
        with self._turn:
            if self.path is None:
                self._begin()
            self._at = max(time.time(), self._at + 1e-6)  # what happened later has a later time
            at = datetime.fromtimestamp(self._at, UTC).isoformat(timespec="microseconds")
            assert self.path is not None  # noqa: S101  it was begun above
            with writing(self.path):
                self._write(b'{"at":"%s","facts":[%s]}\n' % (at.encode(), entries))

    def end(self) -> None:
        """Give the journal up, as if the process had died; the next fact begins another."""
        with self._turn:
            if self.path is not None:
                os.close(self._descriptor)
                self.path = None

    def _begin(self) -> None:
        require_local(self.folder)
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}.jsonl"
            new = path.with_suffix(".new")
            self._descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            new.rename(path)  # locked before any poster sees it: one that was free would be taken for a dead one's
            flush(self.folder)
        self.path, self.length = path, 0

    def _write(self, line: bytes) -> None:
        try:
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self.length)
            raise
        self.length += len(line)


def journals(folder: Path) -> list[Path]:
    """The journals of a home."""
    return sorted(folder.glob("*.jsonl")) if folder.is_dir() else []


def rows_behind(path: Path, start: int) -> tuple[Rows, int]:
    """The rows of the transactions in a journal after its first `start` bytes, and how many bytes those end at.

    Raises:
        FileNotFoundError: the journal is gone, so what it held is in the ledger.
    """
    with path.open("rb") as file:
        file.seek(start)
        lines = file.read()
    rows: Rows = {}
    end = lines.rfind(b"\n") + 1
    for line in lines[:end].splitlines():
        transaction = json.loads(line)
        for table, row in transaction["facts"]:
            rows.setdefault(table, []).append({**row, AT: transaction[AT]})
    return rows, start + end


@contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[bool]:
    """Hold the lock on a file for the block; with `LOCK_NB` in `how`, False where another process has it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        yield _locks(descriptor, how)
    finally:
        os.close(descriptor)


def is_dead(path: Path) -> bool:
    """Whether the process of a journal has ended."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return _locks(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def _locks(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    return True
