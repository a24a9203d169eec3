"""Posting: what stands in the journals gets into the ledger, a DuckDB file that is replaced whole.

Under a lock, a copy of the ledger is made, the journals' new rows are inserted, and the copy is checkpointed, flushed
and renamed into place; a process killed at any point leaves the old ledger or the new one. The table `postings` says
how many bytes of which journal a ledger holds; journals of the dead go after they are posted. DuckDB opens a path
twice, so a reader attaches the ledger under a lock that the poster takes alone for its rename.
"""

import fcntl
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb

from cyclealign.disk import flush, writing
from cyclealign.errors import LedgerForeign
from storage import queries
from storage.faults import translating
from storage.journal import AT, Rows, is_dead, journals, locked, rows_behind

Also = Callable[[duckdb.DuckDBPyConnection], None]
ALONE, TOGETHER, UNLESS_TAKEN = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_EX | fcntl.LOCK_NB


@dataclass(frozen=True, slots=True)
class Shape:
    """What a table of facts looks like, as `sql/schema.sql` says it."""

    key: str
    """The columns of its key, as SQL lists them."""
    columns: Mapping[str, str]
    """Types by name."""
    recorded_at: str
    """The column that says when a fact was recorded."""


@cache
def shapes() -> Mapping[str, Shape]:
    """The tables of facts of this version by name."""
    with duckdb.connect() as connection:
        connection.execute(queries.load("schema"))
        return shapes_of(connection)


def shapes_of(connection: duckdb.DuckDBPyConnection) -> Mapping[str, Shape]:
    """The tables of facts in a database by name."""
    rows = connection.execute(queries.load("ledger/shapes")).fetchall()
    return {
        name: Shape(key, dict(zip(columns, types, strict=True)), recorded_at)
        for name, key, columns, types, recorded_at in rows
    }


def insert(connection: duckdb.DuckDBPyConnection, rows: Rows, into: str = "") -> None:
    """Put the rows of a journal into the tables of a connection; facts that are there stay as they are.

    Args:
        connection: Its tables, under their own names, hold the facts that are there.
        rows: By table.
        into: The schema, with its dot, whose tables take the rows; empty: the same tables.
    """
    for table, found in rows.items():
        shape = shapes()[table]
        words = {"this_target": f"{into}{table}", "this_known": table, "this_key": shape.key}
        entries = [json.dumps({**row, shape.recorded_at: row[AT]}) for row in found]
        parameters = {"rows": entries, "shape": json.dumps(dict(shape.columns))}
        connection.execute(queries.fill("ledger/put_rows", words), parameters)


def swap_lock(folder: Path) -> Path:
    """The file whose lock readers share while they attach, and which a poster has alone while it renames."""
    return folder / ".swap"


def post(ledger: Path, folder: Path, *, unless_taken: bool = False, also: Also | None = None) -> bool:
    """Post all journals of a home; False where another process is posting and that is enough.

    Args:
        ledger: The ledger's file.
        folder: Where the journals are.
        unless_taken: Whether to come back at once while another process posts, instead of waiting for it.
        also: Called with the new ledger before it is committed; where it raises, the present one stays.

    Raises:
        StorageFull: the disk is full or read-only; the ledger is the old one, and the journals hold what it lacks.
        LedgerForeign: the file is not a ledger.
    """
    if not folder.is_dir():
        if also is None:
            return True
        folder.mkdir(parents=True)
    with locked(folder / ".posting", UNLESS_TAKEN if unless_taken else ALONE) as ours:
        if not ours:
            return False
        dead = [path for path in journals(folder) if is_dead(path)]  # before reading: nothing is added to them later
        new = ledger.with_suffix(".new")
        with writing(ledger), translating(ledger):
            try:
                if _fill(new, ledger, journals(folder), also):
                    _replace(ledger, new, folder)
            finally:
                for leftover in (new, _log(new)):
                    leftover.unlink(missing_ok=True)
            for path in dead:
                path.unlink()
    return True


def _fill(new: Path, ledger: Path, found: Sequence[Path], also: Also | None) -> bool:
    """Make a ledger that holds the present one and all of the journals; False when the present one does already."""
    for leftover in (new, _log(new)):
        leftover.unlink(missing_ok=True)
    known, same_schema = dict[str, int](), False
    if ledger.exists():
        shutil.copyfile(ledger, new)
        known, same_schema = _present(new, ledger)
    tails = {path.name: rows_behind(path, known.get(path.name, 0)) for path in found}
    if same_schema and also is None and not any(rows for rows, _ in tails.values()):
        return False
    if not same_schema:
        new.unlink(missing_ok=True)
    with duckdb.connect(str(new)) as connection:
        if not same_schema:
            connection.execute(queries.load("schema"))
            if ledger.exists():
                take_over(connection, ledger)
        connection.begin()
        connection.execute(queries.load("views") + queries.load("views_exhibits"))
        for rows, _ in tails.values():
            insert(connection, rows)
        ends = [{"journal": name, "bytes": end} for name, (_, end) in tails.items()]
        connection.execute(queries.load("ledger/put_postings"), {"rows": ends})
        if also is not None:
            also(connection)
        connection.commit()
        connection.execute("checkpoint")
    return True


def _present(copy: Path, ledger: Path) -> tuple[dict[str, int], bool]:
    """How many bytes of which journal a ledger holds, and whether its tables are those of this version."""
    with duckdb.connect(str(copy), read_only=True) as connection:
        return posted(connection, ledger), shapes_of(connection) == shapes()


def posted(connection: duckdb.DuckDBPyConnection, ledger: Path, of: str = "") -> dict[str, int]:
    """How many bytes of which journal a ledger holds; `of` names the attached database, with its dot.

    Raises:
        LedgerForeign: the file is not a ledger, or is one of the time before journals.
    """
    try:
        return dict(connection.table(f"{of}postings").fetchall())
    except duckdb.CatalogException:
        pass
    raise LedgerForeign(
        f"{ledger} is not a ledger of this version of cyclealign: it has no table of postings. Move the file away, or "
        "choose another home with CYCLEALIGN_HOME."
    )


def take_over(connection: duckdb.DuckDBPyConnection, ledger: Path) -> None:
    """Take the facts of a ledger whose schema is of another version, as far as there are columns for them."""
    connection.execute(queries.fill("ledger/attach", {"this_path": quoted(ledger), "this_name": "before"}))
    with duckdb.connect(str(ledger), read_only=True) as there:
        before = shapes_of(there)
    for table in shapes().keys() & before.keys():
        kept = shapes()[table].columns.keys() & before[table].columns.keys()
        words = {"this_table": table, "these_columns": ", ".join(kept)}
        connection.execute(queries.fill("ledger/take_over", words))
    connection.execute("detach before")


def quoted(path: Path) -> str:
    """A path as it stands between SQL's quotes."""
    return str(path).replace("'", "''")


def _replace(ledger: Path, new: Path, folder: Path) -> None:
    new.chmod(new.stat().st_mode & 0o444)  # nobody writes into it: what is to change is replaced
    flush(new)
    with locked(swap_lock(folder)):
        _log(ledger).unlink(missing_ok=True)  # left by a client that opened the old ledger for writing
        new.replace(ledger)
    flush(ledger.parent)


def _log(file: Path) -> Path:
    """DuckDB's write-ahead log beside a file."""
    return Path(f"{file}.wal")
