"""The figures of a judge audit: as an artifact of the run page, and on the terminal."""

from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from cyclealign.report.audit_tables import audit_table, served_models
from cyclealign.report.terminal import rich_table
from cyclealign.report.untrusted import for_terminal
from storage import audits, runs
from storage.ledger import Ledger
from tasks.context import RunContext, home_folder
from tasks.evaluation.system_publication import wide_console


@task(name="publish audit", cache_policy=NO_CACHE)
def publish_audit(context: RunContext) -> list[dict[str, Any]]:
    """Show the audits of a run on the run page; returns their rows as plain values."""
    table = audit_table(audits.collect(context.ledger, context.name), context.settings.method.candidates)
    rows = [{name: for_terminal(cell) for name, cell in zip(table.columns, row, strict=True)} for row in table.rows]
    create_table_artifact(rows, key="judge-audit", description=f"Judge audit of {context.name}")
    return rows


def print_audit(run_name: str) -> None:
    """Print all that audits of a run have found."""
    ledger, console = Ledger(home_folder()), wide_console()
    rows = audits.collect(ledger, run_name)
    candidates = runs.get(ledger, run_name).settings["method"]["candidates"]
    console.print(rich_table(audit_table(rows, candidates)))
    if len(served_models(rows)) > 1:
        console.print(
            "· More than one served model answered, by name or fingerprint; the rows tell them apart.", markup=False
        )
