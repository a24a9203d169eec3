"""Merges another home's ledger into this one: what a grid of runs brought on other machines, each with its own.

A merge is a posting that also takes the other ledger's facts. Facts are told apart by their keys; one that is here
already must have the same content, apart from when and where it was computed, otherwise nothing is merged. Only
finished runs are taken over. An answer that both ledgers bought stays as it is here, and the money of both counts.
Leaves out what belongs to calls under way (batches), and files: adapters and reports stay where they are.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from cyclealign.errors import LedgerConflict, UsageError
from storage import queries, runs
from storage.faults import translating
from storage.ledger import Ledger
from storage.posting import post, quoted, shapes

LEFT_OUT = frozenset({"batch_events"})
OTHER_KEYS: Mapping[str, str] = {
    "registrations": "run_name",
    "compared_pairs": "comparison_id",
    "audited_rankings": "run_name, audit_seed, step, round",
}
"""By which columns facts are the same although they were recorded at different times."""
NOT_COMPARED: Mapping[str, frozenset[str]] = {
    "audited_rankings": frozenset({"audited_at"}),
    "compared_pairs": frozenset({"compared_at"}),
    "drawn_samples": frozenset({"drawn_at"}),
    "generations": frozenset({"seconds", "created_at"}),
    "preference_accuracies": frozenset({"measured_at"}),
    "preference_correlations": frozenset({"measured_at"}),
    "prepared_datasets": frozenset({"location", "prepared_at"}),
    "prompts": frozenset({"kept_at"}),
    "registrations": frozenset({"operational_settings"}),
}
"""Columns that tell when or where, not what."""
NEVER_IN_CONFLICT = frozenset({"attempts", "outcomes", "verdicts", "labelled_systems", "reward_scores"})
"""Bought twice: ours stays. Rewards are compared up to rounding."""
PAID = frozenset({"attempts", "outcomes", "verdicts"})
"""Taken over of unfinished runs too: others may use the answers."""
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
    """New facts of all kinds."""


def merge(ledger: Ledger, other: Path) -> Imported:
    """Take over the finished runs of another ledger, all of them or none; the second time nothing is new.

    Args:
        ledger: What is merged into.
        other: The other home, or a ledger's file. What it holds stays as it is.

    Raises:
        UsageError: there is no such ledger, or it is this one.
        LedgerConflict: facts have the same keys as facts here and other content; the message names them.
        LedgerForeign, StorageFull: a file cannot be used.
    """
    home = other if other.is_dir() else other.parent
    theirs = Ledger(home)
    if not theirs.path.is_file() and not (other.is_dir() and theirs.journals.is_dir()):
        raise UsageError(f"No ledger at {theirs.path}. Expected the file ledger.duckdb of another home, or that home.")
    if home.resolve() == ledger.home.resolve():
        raise UsageError(f"{theirs.path} is the ledger of this home. Expected another one.")
    before, counts = set(runs.names(ledger)), list[int]()
    with _copy(theirs) as copy:
        states = {row["run_name"]: row["state"] for row in _rows(copy, "runs/states")}

        def take(connection: duckdb.DuckDBPyConnection) -> None:
            words = {"this_path": quoted(copy), "this_name": "other"}
            connection.execute(queries.fill("ledger/attach", words))
            _refuse_conflicts(connection)
            for table in shapes().keys() - LEFT_OUT:
                found = connection.execute(queries.fill("imports/copy", _words(table))).fetchone()
                counts.append(int(found[0]) if found else 0)

        ledger.home.mkdir(parents=True, exist_ok=True)
        post(ledger.path.absolute(), ledger.journals.absolute(), also=take)
    new = tuple(name for name in runs.names(ledger) if name not in before)
    skipped = tuple(sorted(name for name, state in states.items() if state not in runs.DONE))
    return Imported(new, skipped, sum(counts))


@contextmanager
def _copy(theirs: Ledger) -> Iterator[Path]:
    """A file that holds everything of the other home, its journals included."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / theirs.path.name
        journals = copy.parent / theirs.journals.name
        if theirs.path.exists():
            shutil.copyfile(theirs.path, copy)
        journals.mkdir()
        if theirs.journals.is_dir():
            shutil.copytree(theirs.journals, journals, dirs_exist_ok=True)
        post(copy, journals)
        yield copy


def _rows(file: Path, query: str) -> list[dict[str, Any]]:
    with translating(file), duckdb.connect(str(file), read_only=True) as connection:
        cursor = connection.execute(queries.load(query))
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _words(table: str) -> dict[str, str]:
    """What stands for the words of the templates."""
    shape = shapes()[table]
    content = [column for column in shape.columns if column not in NOT_COMPARED.get(table, frozenset())]
    finished = "run_name in (select runs.run_name from other.runs where runs.finished_at is not null)"
    of_runs = "run_name" in shape.columns and table not in PAID
    return {
        "this_table": table,
        "this_key": OTHER_KEYS.get(table, shape.key),
        "this_content": ", ".join(content),
        "this_choice": finished if of_runs else "true",
    }


def _refuse_conflicts(connection: duckdb.DuckDBPyConnection) -> None:
    compared = shapes().keys() - LEFT_OUT - NEVER_IN_CONFLICT
    found = {
        table: connection.execute(queries.fill("imports/conflicts", _words(table))).fetchall() for table in compared
    }
    rewards = connection.execute(queries.load("imports/conflicting_rewards"), {"tolerance": TOLERANCE})
    found["reward_scores"] = rewards.fetchall()
    lines = [_described(name, keys) for name, keys in sorted(found.items()) if keys]
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
