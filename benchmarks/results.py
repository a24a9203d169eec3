"""Where measured rows go: `results.json`, each row with what it was measured on, and a table for people.

The file is a list, so that a row can be replaced without the others, which keep the commit that they were measured
at. It is replaced as a whole or not at all.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from benchmarks.rows import Row

PATH = Path(__file__).parent / "results.json"
Record = dict[str, Any]


def provenance() -> Record:
    """What stands beside every figure: commit, package versions, machine, time."""
    from tasks.machine import git_commit, machine, package_versions  # noqa: PLC0415  imports torch

    return {
        "commit": git_commit(),
        "package_versions": package_versions(),
        "machine": machine(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def read(path: Path = PATH) -> list[Record]:
    """The rows of an earlier run; none when there is no file."""
    found: list[Record] = json.loads(path.read_text()) if path.exists() else []
    return found


def merged(known: Sequence[Record], new: Sequence[Record]) -> list[Record]:
    """The new rows in the places of known ones of the same name, the others after them."""
    by_name = {one["name"]: one for one in known} | {one["name"]: one for one in new}
    return list(by_name.values())


def write(records: Sequence[Record], path: Path = PATH) -> None:
    """Put the file in place, complete; who is killed meanwhile leaves the old one."""
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(records, indent=2, ensure_ascii=False) + "\n")
    unfinished.replace(path)


def table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal; a missed bar says so in words."""
    shown = Table(title="Benchmarks")
    shown.add_column("claim")
    for heading in ("measured", "low … high", "repeats", "bar"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    for row in rows:
        shown.add_row(*_cells(row))
    return shown


def _cells(row: Row) -> list[str | Text]:
    plain, unit = row.as_dict(), f" {row.unit}" if row.unit else ""
    claim = Text.assemble(row.name, (f"\n{row.note}" if row.note else "", "dim"))
    bar = f"{row.bar.kind.replace('_', ' ')} {row.bar.value:g}{unit}"
    if row.ratio is None:
        return [claim, "not measured", "", "", bar, ""]
    spread = f"{plain['low']:g} … {plain['high']:g}"
    verdict = Text("missed", "bold red") if row.missed else Text("ok", "green")
    return [claim, f"{plain['ratio']:g}{unit}", spread, str(plain["repeats"]), bar, verdict]
