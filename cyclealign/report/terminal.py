"""The end of a run in a terminal: tables, cases, cost, paths. Text of models is never read as markup."""

from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from cyclealign.report import formats, tables
from cyclealign.report.content import case_rule
from cyclealign.report.figures import Case, RunFigures
from cyclealign.report.notes import honesty_notes
from cyclealign.report.tables import Table
from cyclealign.report.untrusted import clip, clip_start, for_terminal

PROMPT_LENGTH, RESPONSE_LENGTH = 300, 400
"""Characters of a case that are shown."""


def summary_lines(figures: RunFigures, report: Path | None = None) -> list[RenderableType]:
    """What a finished run prints last: one renderable per block, for `rich.console.Console.print`."""
    shown = [tables.compact_table(table) for table in figures.rewards]
    if figures.texts:
        shown.append(tables.compact_text_table(figures.texts[-1]))
    return [
        *(_spaced(rich_table(table)) for table in shown),
        *(_spaced(Text(f"· {for_terminal(note)}")) for note in honesty_notes(figures)),
        *([_spaced(Text(for_terminal(case_rule(figures))))] if figures.cases else []),
        *(_spaced(_case(case)) for case in figures.cases),
        _paths(figures, report),
    ]


def _spaced(block: RenderableType) -> Padding:
    return Padding(block, (0, 0, 1, 0))


def rich_table(table: Table) -> RichTable:
    """The table for a terminal."""
    title = Text(for_terminal(table.caption), style="bold")
    grid = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(table.columns):
        words = place < table.text_columns
        grid.add_column(Text(for_terminal(name)), justify="left" if words else "right")
    for index, row in enumerate(table.rows):
        total = table.total and index == len(table.rows) - 1
        grid.add_row(*(Text(for_terminal(cell)) for cell in row), style="bold" if total else "")
    return grid


def _case(case: Case) -> Group:
    gain = formats.signed(case.reward_after - case.reward_before)
    heading = Text(f"{case.rule.capitalize()}: {gain}, {for_terminal(case.subset)}", style="bold")
    lines = [
        ("Prompt", clip_start(case.instruction, PROMPT_LENGTH)),
        (f"Before ({formats.number(case.reward_before)})", clip(case.before, RESPONSE_LENGTH)),
        (f"After ({formats.number(case.reward_after)})", clip(case.after, RESPONSE_LENGTH)),
    ]
    body = [Text.assemble((f"{label}: ", "cyan"), for_terminal(text)) for label, text in lines]
    return Group(heading, *(Padding(line, (0, 0, 0, 2)) for line in body))


def _paths(figures: RunFigures, report: Path | None) -> RichTable:
    grid = RichTable.grid(padding=(0, 2))
    calls = int(figures.spend["calls"].sum())
    reused = int(figures.spend["reused_calls"].sum())
    spent = f"{formats.usd(figures.spent_usd)} for {formats.count(calls - reused)} calls"
    rows = [
        ("API calls", f"{spent}, {formats.count(reused)} more reused" if reused else spent),
        ("Adapter", figures.run.adapter_path),
        ("Ledger", figures.run.ledger),
        ("Report", report and str(report)),
    ]
    for label, value in rows:
        if value:
            grid.add_row(Text(label, style="cyan"), Text(for_terminal(value), overflow="fold"))
    return grid
