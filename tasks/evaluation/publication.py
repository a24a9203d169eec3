"""The run's adapter, report and exhibits: files for people, artifacts for the run page, a summary for the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from rich.console import Console

from cyclealign.disk import writing
from cyclealign.errors import UsageError
from cyclealign.report import page, render
from cyclealign.report.blocks import Table
from cyclealign.report.untrusted import for_markdown
from cyclealign.white_box.white_box import WhiteBox
from storage import exhibits, runs
from storage.ledger import Ledger
from tasks.context import RunContext, home_folder
from tasks.cycle.progress import say

ADAPTER, REPORT = "adapter", "report"
WEIGHTS = "adapter_model.safetensors"


@task(name="save adapter", cache_policy=NO_CACHE)
def save_adapter(context: RunContext, white_box: WhiteBox) -> str:
    """Write the adapter in peft's format and note its digest; returns the digest.

    Raises:
        StorageFull: the disk is full or read-only.
    """
    folder, before = context.folder / ADAPTER, runs.get(context.ledger, context.name).weights_sha256
    with writing(folder):
        white_box.save_adapter(folder)
    digest = white_box.weights_sha256()
    if before is not None and before != digest:
        say(f"  The adapter is not the one that was recorded before: {digest[:12]}, then {before[:12]}")
    runs.record_adapter(context.ledger, context.name, folder, digest)
    return digest


@task(name="publish report", cache_policy=NO_CACHE)
def publish_report(context: RunContext) -> dict[str, Any]:
    """Write the report, show its tables and plots on the run page; returns the run's state in plain values."""
    figures = exhibits.read_report(context.ledger, context.name)
    blocks = page.report(figures)
    render.write_report(figures, blocks, context.folder / REPORT)
    create_markdown_artifact(render.in_one(blocks), key="report", description=f"Report of {context.name}")
    rows = _records(page.reward_tables(figures))
    create_table_artifact(rows, key="rewards", description="Rewards before and after")
    return runs.status(context.ledger, context.name)[0].as_dict()


@task(name="publish exhibits", cache_policy=NO_CACHE)
def publish_exhibits(ledger: Ledger, names: Sequence[str], run_name: str | None = None, **parameters: str) -> None:
    """Show exhibits (`table-5`, `figure-4`, …) on the run page, with their plots.

    Args:
        ledger: Where the runs are recorded.
        names: As `cyclealign exhibit` lists them.
        run_name: The run that they show; those that show all finished runs side by side take none.
        parameters: Of their SQL files, by name.
    """
    for name in names:
        shown = () if run_name is None or exhibits.together(name) else (run_name,)
        found = exhibits.read_exhibit(ledger, name, shown, parameters)
        plot = render.plot_of(found)
        text = render.in_one([*render.exhibit_blocks(found), *([plot] if plot else [])])
        create_markdown_artifact(text, key=name, description=found.title)


@task(name="publish audit", cache_policy=NO_CACHE)
def publish_audit(context: RunContext) -> list[dict[str, str]]:
    """Show the audits of a run on the run page; returns their rows as plain values."""
    rows = _records(exhibits.read_exhibit(context.ledger, "run-audit", [context.name], {}).below)
    create_table_artifact(rows, key="judge-audit", description=f"Judge audit of {context.name}")
    return rows


def _records(tables: Sequence[Table]) -> list[dict[str, str]]:
    """Rows for a table artifact, whose cells the UI reads as Markdown; the caption tells its tables apart."""
    return [
        {"table": for_markdown(table.caption)}
        | {name: for_markdown(cell) for name, cell in zip(table.columns, row, strict=True)}
        for table in tables
        for row in table.rows
    ]


def render_report(run_name: str) -> render.ReportFiles:
    """Write the report of a run of the home folder again, as `cyclealign report` does.

    Raises:
        RunUnknown: the ledger has no run of this name.
    """
    ledger = Ledger(home_folder())
    figures = exhibits.read_report(ledger, run_name)
    return render.write_report(figures, page.report(figures), ledger.home / run_name / REPORT)


def print_end(run_name: str) -> None:
    """Print the end of a run whose report is written: tables, cases, cost, paths."""
    ledger, console = Ledger(home_folder()), Console(width=max(80, Console().width))  # narrower, figures would be cut
    figures = exhibits.read_report(ledger, run_name)
    for block in render.terminal(page.summary(figures, ledger.home / run_name / REPORT / render.PAGE)):
        console.print(block)


def is_done(context: RunContext) -> bool:
    """Whether there is nothing left to do; says so, or that an adapter of this home is gone and made again.

    A run that was imported is left alone: its adapter stayed where it was trained.
    """
    row = runs.get(context.ledger, context.name)
    if row.state not in runs.DONE:
        return False
    there = _adapter_folder(context, row.adapter_path) is not None
    elsewhere = bool(row.adapter_path) and not Path(str(row.adapter_path)).is_relative_to(context.home)
    if there or elsewhere:
        trained = "" if there else f" It was trained in another home, its adapter is or was at {row.adapter_path}."
        say(f"Run {context.name} is {row.state}; nothing to do.{trained} Its report is printed below.")
        return True
    say(
        f"Run {context.name} is {row.state}, but its adapter is gone from {row.adapter_path}: made again from what is "
        "recorded; nothing is asked again"
    )
    return False


def adapter_of(context: RunContext) -> Path:
    """The folder of a run's trained adapter.

    Raises:
        UsageError: the run has not come to its end yet, or the adapter is not on this machine.
    """
    recorded = runs.get(context.ledger, context.name).adapter_path
    found = _adapter_folder(context, recorded)
    if found is None:
        raise UsageError(
            f"Run {context.name!r} has no adapter{f' at {recorded}' if recorded else ' yet'}. Expected a finished run: "
            "give the command that began it again, in the home where it was trained."
        )
    return found


def _adapter_folder(context: RunContext, recorded: str | None) -> Path | None:
    """Where a run's adapter lies: where it was written, or in the run's folder, if the home was moved since."""
    if recorded is None:
        return None
    places = (Path(recorded), context.folder / ADAPTER)
    return next((place for place in places if (place / WEIGHTS).is_file()), None)
