"""What a ledger keeps that processes hand over all the time, and whose processes are killed within checkpoints.

Claim: every row that was committed is there, `python -m benchmarks.ledger_faults`. With `--bare` the same is done with
DuckDB alone, which opens the file when it is free and writes its checkpoints itself: whether what `storage.ledger_lock`
and `storage.snapshots` are there for still happens under the installed version.

Handing over: processes that each insert a row and close the file, again and again, beside others that keep the
processor busy, so that one may be held up at any moment. Killing: a process inserts rows and writes checkpoints until
it gets a SIGKILL. Prints the counts; exit code 1 when a row is gone or the file cannot be opened.
"""

import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import duckdb

from cyclealign.errors import LedgerError
from storage import queries
from storage.connection import THREADS
from storage.ledger import Ledger
from storage.reading import opened_ledger

FORKS = multiprocessing.get_context("fork")
"""Nothing but children opens a database: a copy of an open one would be of no use to them."""
BETWEEN_TRIES_S = 0.0005
PER_CHECKPOINT = 2
LATEST_KILL_S = 0.03
"""After the first checkpoint; the next ones follow at once."""
WAIT_S = 600.0


class OurLedger:
    """The ledger as the flows use it."""

    def __init__(self, home: Path) -> None:
        self._ledger = Ledger(home, wait_s=WAIT_S)

    def put(self, row: str) -> None:
        """Commit a row."""
        with self._ledger.session() as session:
            session.run("datasets/put", **_columns(row))

    def checkpoint(self) -> None:
        """Write what was committed into the file."""
        self._ledger.publish_snapshot()

    def close(self) -> None:
        """Let others in."""
        self._ledger.close()

    def rows(self) -> set[str]:
        """Everything that is there."""
        with opened_ledger(self._ledger.path) as connection:
            return _rows_in(connection) if connection is not None else set()


class BareDuckDB:
    """The same file, opened by whoever comes when it is free."""

    def __init__(self, home: Path) -> None:
        self._path = home / "ledger.duckdb"
        self._connection: duckdb.DuckDBPyConnection | None = None

    def _opened(self) -> duckdb.DuckDBPyConnection:
        while self._connection is None:
            try:
                self._connection = duckdb.connect(str(self._path), config={"threads": THREADS})
            except duckdb.IOException as error:
                if "Could not set lock" not in str(error):
                    raise
                time.sleep(BETWEEN_TRIES_S)
        return self._connection

    def put(self, row: str) -> None:
        """Commit a row."""
        self._opened().execute(queries.load("datasets/put"), _columns(row))

    def checkpoint(self) -> None:
        """Write what was committed into the file."""
        self._opened().execute("checkpoint")

    def close(self) -> None:
        """Let others in."""
        self._opened().close()
        self._connection = None

    def rows(self) -> set[str]:
        """Everything that is there."""
        return _rows_in(self._opened())


Opened = Callable[[Path], OurLedger | BareDuckDB]


def _rows_in(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {digest for (digest,) in connection.execute("select dataset_digest from datasets").fetchall()}


def _columns(row: str) -> dict[str, str]:
    return {"dataset_digest": row, "source": "s", "location": "l", "options": "{}"}


@contextmanager
def empty_home() -> Iterator[Path]:
    """A home with an empty ledger, on no disk where that can be had: writing is quick, and more is tried."""
    memory = Path("/dev/shm")  # noqa: S108  a folder of its own within
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        home = Path(folder)
        _in_a_child(_create, home)
        yield home


def _create(home: Path) -> None:
    Ledger(home).publish_snapshot()


def handed_over(opened: Opened, seconds: float, processes: int = 3, busy: int = 6) -> tuple[int, int]:
    """How many rows the processes committed, and how many of them are gone."""
    with empty_home() as home:
        end = time.time() + seconds
        writers = [FORKS.Process(target=_insert, args=(opened, home, number, end)) for number in range(processes)]
        others = [FORKS.Process(target=_be_busy, args=(end,)) for _ in range(busy)]
        for one in (*writers, *others):
            one.start()
        for one in (*writers, *others):
            one.join()
        committed = {row for file in home.glob("*.told") for row in file.read_text().split()}
        return len(committed), len(committed - _rows(opened, home))


def _insert(opened: Opened, home: Path, number: int, end: float) -> None:
    ledger, count = opened(home), 0
    with (home / f"{number}.told").open("w") as told:
        while time.time() < end:
            count += 1
            ledger.put(f"{number}-{count}")
            ledger.close()
            print(f"{number}-{count}", file=told, flush=True)


def _be_busy(end: float) -> None:
    while time.time() < end:
        pass


def killed(opened: Opened, kills: int, seed: int = 0) -> tuple[int, int]:
    """How many processes were killed, and after how many of them rows were gone or the file could not be opened."""
    moments, bad, number = random.Random(seed), 0, 0
    while number < kills:
        with empty_home() as home:
            committed: set[str] = set()
            for _ in range(min(50, kills - number)):
                number += 1
                committed |= _kill(opened, home, f"{number}", moments.random() * LATEST_KILL_S)
                if not committed <= _rows(opened, home):
                    bad += 1
                    break
    return number, bad


def _kill(opened: Opened, home: Path, name: str, after_s: float) -> set[str]:
    reading, writing = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_write_checkpoints, args=(opened, home, name, writing))
    process.start()
    writing.close()
    committed = {reading.recv() for _ in range(PER_CHECKPOINT)}
    time.sleep(after_s)
    process.kill()
    process.join()
    while True:
        try:
            committed.add(reading.recv())
        except EOFError:
            return committed


def _write_checkpoints(opened: Opened, home: Path, name: str, told: Any) -> None:
    ledger, count = opened(home), 0
    while True:
        for _ in range(PER_CHECKPOINT):
            count += 1
            ledger.put(f"{name}-{count}")
            told.send(f"{name}-{count}")
        ledger.checkpoint()


def _rows(opened: Opened, home: Path) -> set[str]:
    """What a process that comes afterwards finds; nothing where it cannot open the file."""
    return set(_in_a_child(_tell_rows, opened, home) or [])


def _tell_rows(opened: Opened, home: Path) -> list[str]:
    try:
        return sorted(opened(home).rows())
    except (LedgerError, duckdb.Error) as error:
        print(f"  {error}", file=sys.stderr)
        return []


def _in_a_child(work: Callable[..., Any], *arguments: Any) -> Any:
    reading, writing = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=lambda: writing.send(work(*arguments)))
    process.start()
    writing.close()
    try:
        return reading.recv()
    finally:
        process.join()


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--bare", is_flag=True, help="DuckDB alone.")
@click.option("--seconds", default=120.0, show_default=True, help="Of handing over.")
@click.option("--kills", default=1000, show_default=True, help="Processes to kill.")
def main(*, bare: bool, seconds: float, kills: int) -> None:
    """Print what was committed and what is gone."""
    opened: Opened = BareDuckDB if bare else OurLedger
    committed, gone = handed_over(opened, seconds)
    click.echo(f"handed over: {committed} rows committed, {gone} gone")
    processes, bad = killed(opened, kills)
    click.echo(f"killed within checkpoints: {processes} processes, rows or the file gone after {bad}")
    sys.exit(1 if gone or bad else 0)


if __name__ == "__main__":
    main()
