"""Merges another ledger into this one: what a grid of runs brought on other machines, each with a ledger of its own.

Rows are told apart by their primary keys. A row that is here already must have the same content, apart from when and
where it was computed; otherwise nothing is merged. Only finished runs are taken over. An answer that both ledgers
bought stays as it is here, and the money of both counts. Leaves out what belongs to calls under way (batches), and
files: adapters and reports stay where they are.
"""

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from cyclealign.errors import LedgerConflict, LedgerLocked, UsageError
from storage import migrations, reading, response_rewards, snapshots
from storage.faults import translating
from storage.ledger import Ledger, Session

LEFT_OUT = ("schema_migrations", "batches", "batch_calls", "api_attempts")
NOT_COMPARED: Mapping[str, frozenset[str]] = {
    "audits": frozenset({"audited_at"}),
    "comparisons": frozenset({"compared_at"}),
    "datasets": frozenset({"location", "prepared_at"}),
    "generations": frozenset({"seconds", "created_at"}),
    "preference_accuracies": frozenset({"measured_at"}),
    "preference_correlations": frozenset({"measured_at"}),
    "runs": frozenset({"updated_at", "operational_settings", "process_host", "process_id", "process_started_at"}),
    "systems": frozenset({"label"}),
}
"""Columns that tell when, where or under which label, not what."""
NEVER_IN_CONFLICT = ("api_calls", "reward_scores")
"""Bought twice: ours stays. Rewards are compared up to rounding."""
COUNTED_ANEW = ("counted_pairs",)
"""Tables without keys: made of rows of the others."""
OTHER_ROUNDING = (
    " Responses that differ are the same model's under the same seed: the machines round differently, by their "
    "processor or their packages. Expected one kind of machine for runs that share an evaluation."
)
TOLERANCE = 1e-3
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Imported:
    """What a merge brought."""

    runs: tuple[str, ...]
    """Names of the runs that were not here before."""
    skipped: tuple[str, ...]
    """Names of unfinished runs, which stay where they are."""
    rows: int
    """New rows in all tables."""


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]

    def words(self) -> dict[str, str]:
        """What stands for the words of the templates."""
        left_out = NOT_COMPARED.get(self.name, frozenset())
        content = [column for column in self.columns if column not in left_out]
        return {"this_table": self.name, "this_key": ", ".join(self.key), "this_content": ", ".join(content)}


def merge(ledger: Ledger, other: Path) -> Imported:
    """Take over the finished runs of another ledger, all of them or none; the second time nothing is new.

    Args:
        ledger: What is merged into.
        other: The other ledger's file, or the home that it is in. What it holds stays as it is.

    Raises:
        UsageError: there is no such ledger, or it is this one.
        LedgerConflict: rows have the same keys as rows here and other content; the message names them.
        LedgerLocked, LedgerForeign, StorageFull: a file cannot be used.
    """
    path = _file(ledger, other)
    with (
        tempfile.TemporaryDirectory() as folder,
        _finished_copy(path, Path(folder)) as (copy, skipped),
        ledger.session() as session,
    ):
        before = set(_names(session))
        rows = _merge(session, copy)
        new = tuple(name for name in _names(session) if name not in before)
    ledger.publish_snapshot()
    return Imported(new, skipped, rows)


def _file(ledger: Ledger, other: Path) -> Path:
    path = other / ledger.path.name if other.is_dir() else other
    if not path.is_file():
        raise UsageError(f"No ledger at {path}. Expected the file ledger.duckdb of another home, or that home.")
    if ledger.path.exists() and path.samefile(ledger.path):
        raise UsageError(f"{path} is the ledger of this home. Expected another one.")
    return path


@contextmanager
def _finished_copy(path: Path, folder: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A copy of a ledger in the present schema that holds finished runs alone, and the names of the others."""
    copy = folder / path.name
    Ledger(path.parent).close()  # this process may have it open
    with reading.opened_ledger(path) as held:
        if held is None:
            raise LedgerLocked(
                f"{path} is held by another process. Expected it to be free: wait until that has ended, or copy its "
                f"snapshot, {snapshots.beside(path)}, and merge the copy."
            )
        # another process copies: closing the file in this one would drop DuckDB's lock on it
        files = [file for file in (path, snapshots.log_of(path)) if file.exists()]
        subprocess.run(["cp", *map(str, files), str(folder)], check=True, capture_output=True)
    with translating(copy), duckdb.connect(str(copy)) as connection:
        migrations.migrate(connection, path)
        session = Session(connection)
        skipped = tuple(row["run_name"] for row in session.rows("imports/unfinished"))
        tables = [table for table in _tables(session) if "run_name" in table.columns]
        for table in sorted(tables, key=lambda one: one.name == "runs"):  # the others ask it
            if table.name != "api_calls":  # whoever asked first, others may use the answer
                session.filled("imports/drop_unfinished", table.words())
    yield copy, skipped


def _merge(session: Session, copy: Path) -> int:
    session.filled("imports/attach", {"this_path": str(copy).replace("'", "''")})
    try:
        with session.transaction():
            tables = [table for table in _tables(session) if table.name not in LEFT_OUT]
            _refuse_conflicts(session, tables)
            counts = [int(session.filled("imports/copy", table.words())[0][0]) for table in tables]
            for row in session.rows("imports/runs"):
                response_rewards.count_pairs(session, row["run_name"])
            return sum(counts) + int(session.value("imports/copy_attempts"))
    finally:
        session.run("imports/detach")


def _refuse_conflicts(session: Session, tables: list[_Table]) -> None:
    found = {
        table.name: session.filled("imports/conflicts", table.words())
        for table in tables
        if table.name not in NEVER_IN_CONFLICT
    }
    rewards = session.rows("imports/conflicting_rewards", tolerance=TOLERANCE)
    found["reward_scores"] = [tuple(row.values()) for row in rewards]
    lines = [_described(name, keys) for name, keys in found.items() if keys]
    if lines:
        raise LedgerConflict(
            "The two ledgers hold other content under the same names; nothing was merged:\n"
            + "\n".join(lines)
            + "\nExpected runs of other names, or the very same runs. Give runs names of their own with --run."
            + (OTHER_ROUNDING if found["generations"] else "")
        )


def _described(table: str, keys: list[tuple[object, ...]]) -> str:
    shown = "; ".join(" ".join(str(part) for part in key) for key in keys[:SHOWN])
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"  {table}: {shown}{more}"


def _tables(session: Session) -> list[_Table]:
    rows = session.rows("imports/tables")
    return [_Table(row["table_name"], tuple(row["key_columns"]), tuple(row["column_names"])) for row in rows]


def _names(session: Session) -> list[str]:
    return [row["run_name"] for row in session.rows("runs/names")]
