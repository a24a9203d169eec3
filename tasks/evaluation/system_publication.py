"""Tables 1 and 2 of an evaluation: on the terminal, and as artifacts of the run page."""

import sys
from collections.abc import Sequence
from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from rich.console import Console

from cyclealign.report.judge_notes import judge_notes
from cyclealign.report.system_tables import bias_table, difference_table, pairwise_table, reward_table
from cyclealign.report.tables import Table
from cyclealign.report.terminal import rich_table
from cyclealign.report.untrusted import for_markdown, for_terminal
from storage.figures import order_reward_models
from storage.ledger import Ledger
from storage.system_figures import SystemFrames, collect_systems
from tasks.context import RunContext, home_folder

WIDTH = 200
"""Characters of a table's line where there is no terminal to ask."""


@task(name="publish systems", cache_policy=NO_CACHE)
def publish_systems(context: RunContext) -> None:
    """Show the systems of the evaluation on the run page."""
    frames = collect_systems(context.ledger, context.name)
    notes: dict[str, list[str]] = {"table-1": [], "table-2": reservations(frames)}
    for key, tables in (("table-1", reward_tables(frames)), ("table-2", judge_tables(frames))):
        rows = [row for table in tables for row in _records(table)]
        if rows:
            about = [for_markdown(text) for text in (f"{tables[0].caption} and more", *notes[key])]
            create_table_artifact(rows, key=key, description="\n\n".join(about))


def print_systems(run_name: str) -> None:
    """Print the systems of a run's evaluation beside its own model, and what its judges said; nothing without any."""
    ledger = Ledger(home_folder())
    frames, console = collect_systems(ledger, run_name), wide_console()
    others = set(frames.scores["role"]) - {"before", "after"}
    for table in [*(reward_tables(frames) if others else ()), *judge_tables(frames)]:
        console.print(rich_table(table))
    for note in reservations(frames):
        console.print(f"· {for_terminal(note)}", markup=False, soft_wrap=True)


def wide_console() -> Console:
    """The terminal; where there is none, room for a table's line."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def reward_tables(frames: SystemFrames) -> list[Table]:
    """Table 1 under each reward model, with the differences."""
    names = order_reward_models(frames.scores["reward_model"].unique())
    return [table(frames.scores, name) for name in names for table in (reward_table, difference_table)]


def judge_tables(frames: SystemFrames) -> list[Table]:
    """Table 2 of each judge, with what it may be swayed by."""
    tables: list[Table] = []
    for judge in frames.outcomes["judge"].unique():
        tables += [pairwise_table(frames.outcomes, judge), bias_table(frames.verdicts, judge)]
    return tables


def reservations(frames: SystemFrames) -> list[str]:
    """What a reader must know of the judges of Table 2."""
    return judge_notes(frames.outcomes["judge"].unique(), frames.ranked_by)


def _records(table: Table) -> list[dict[str, Any]]:
    """Rows for a table artifact; the caption tells the tables in it apart."""
    return [{"table": for_terminal(table.caption), **_row(table.columns, row)} for row in table.rows]


def _row(columns: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    return {name: for_terminal(cell) for name, cell in zip(columns, cells, strict=True)}
