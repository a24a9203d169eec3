"""Rows on the terminal or in a pipe: a table for people, CSV and JSON for programs.

A terminal gets nothing that it would act upon, whatever the cells hold. Leaves out the end of a run
(`tasks.evaluation.publication`). Commands import it when they print rows: pandas is slow to import. Exhibits, which
bring matplotlib, are imported where they are printed.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import pandas as pd
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from cyclealign.report.untrusted import for_message, for_terminal

if TYPE_CHECKING:
    from cyclealign.report.blocks import Table
    from cyclealign.report.exhibits import Exhibit

WIDTH = 200
"""Characters of a table's line where there is no terminal to ask."""
REASON = 60
"""Characters of a reason that fit into a table."""


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print records as a table."""
    print_frame(pd.DataFrame(rows), "table")


def in_brief(status: dict[str, Any]) -> dict[str, Any]:
    """A run's status, what fits beside each other; all of it stands in the JSON."""
    reason, agreement = status["state_reason"] or "", status["agreement"]
    line = reason.splitlines()[0] if reason else ""
    return {
        **{name: status[name] for name in ("name", "state", "profile", "seed", "step", "steps", "rounds")},
        "unranked": f"{100 * status['unranked']:.2g} %" if status["unranked"] else "",
        "spend_usd": f"{status['spend_usd']:.2f}",
        "agreement": "" if agreement is None else f"{agreement:.2f}",
        "weights": (status["weights_sha256"] or "")[:8],
        "reason": line if len(line) <= REASON else f"{line[:REASON]}…",
    }


def print_frame(frame: pd.DataFrame, style: str) -> None:
    """Print a data frame as `table`, `csv` or `json`."""
    if style == "json":  # escaped to ASCII: the same values, and nothing in them reaches a terminal raw
        text = frame.to_json(orient="records", indent=2, date_format="iso", force_ascii=True)
        click.echo(text.replace("\x7f", "\\u007f"))
    elif style == "csv":
        text = frame.to_csv(index=False)
        # color: click would take escape sequences out of what goes into a file
        click.echo(for_message(text) if sys.stdout.isatty() else text, nl=False, color=True)
    else:
        console = _console()
        console.print(_table(frame))
        click.echo(f"{len(frame)} rows", err=True)


def print_exhibit(exhibit: "Exhibit", style: str) -> None:
    """Print an exhibit as `table`, `markdown`, `latex`, `csv` or `json`."""
    from cyclealign.report.render import as_latex, exhibit_blocks, markdown

    if style in ("csv", "json"):
        print_frame(exhibit.frame, style)
    elif style == "table":
        _print(exhibit, exhibit.everything)
    else:
        text = as_latex(exhibit) if style == "latex" else markdown(exhibit_blocks(exhibit), {})
        click.echo(text, nl=False)


def print_systems(run: str) -> None:
    """Print the systems of a run's evaluation beside its own model, and what its judges said; nothing without any."""
    for name, known in (("table-1", {"before", "after"}), ("table-2", set())):
        found = _exhibit(name, run)
        if set(found.frame.loc[found.frame["source"] == "ours", "role"]) - known:
            print_exhibit(found, "table")


def print_audit(run: str) -> None:
    """Print all that audits of a run have found."""
    found = _exhibit("run-audit", run)
    _print(found, found.below)


def _console() -> Console:
    """The terminal, taken to be no narrower than figures need; a pipe is wide."""
    return Console(width=max(80, Console().width) if sys.stdout.isatty() else WIDTH)


def _exhibit(name: str, run: str) -> "Exhibit":
    from storage.exhibits import read_exhibit
    from storage.ledger import Ledger
    from tasks.context import home_folder

    return read_exhibit(Ledger(home_folder()), name, [run], {})


def _print(exhibit: "Exhibit", tables: "Sequence[Table]") -> None:
    from cyclealign.report.render import rich_table

    console = _console()
    for table in tables:
        console.print(rich_table(table))
    for note in exhibit.notes:
        click.echo(for_terminal(note), err=True)


def _table(frame: pd.DataFrame) -> RichTable:
    """Cells are `Text`: as plain strings, `[red]` or `[link=…]` in them would be markup."""
    table = RichTable()
    for name in frame.columns:
        table.add_column(Text(for_terminal(str(name))))
    known = frame.astype(object).where(frame.notna(), "")
    for row in known.itertuples(index=False):
        table.add_row(*[Text(for_terminal(str(value))) for value in row])
    return table
