"""Commands that set runs beside each other: refolds, baselines, ablations, merged ledgers. Part of the command line
(`cli.main`).
"""

import re
from pathlib import Path
from typing import Any

import click

NEW_RUN = click.option("--run", "name", required=True, metavar="NEW", help="Name of the new run.")
SET = click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a setting; repeatable.")
SEED = re.compile(r"-?[0-9]{1,20}")


@click.command()
@click.argument("run")
@NEW_RUN
@SET
def refold(run: str, name: str, assignments: tuple[str, ...]) -> None:
    """Train a new run on the recorded rounds of RUN, without sampling and without a call; the same command continues.

    Another objective, learning rate, order (seed, wave), rewrite mode or backbone may be set.
    """
    _run_beside("flows.refold:refold", run, name, assignments)


@click.command()
@click.argument("run")
@click.option("--method", required=True, type=click.Choice(["sft", "rrhf", "pro", "dpo", "rl"]))
@NEW_RUN
@SET
def baseline(run: str, method: str, name: str, assignments: tuple[str, ...]) -> None:
    """Train a baseline on the data set's own preferences, in as many steps as RUN; the same command continues.

    dpo and rl (REINFORCE leave-one-out with PPO's clipped ratio) need the extra "baselines".
    """
    _run_beside("flows.baseline:baseline", run, name, assignments, method=method)


@click.command()
@click.option("--profile", default="laptop", show_default=True, help="Name in profiles/, or a YAML file.")
@click.option(
    "--grid",
    type=click.Choice(["table-4", "figure-5", "controls"]),
    default="table-4",
    show_default=True,
    help="Demonstrations full, static, off; N = 1 to 7; without the ranking term, without the rewrite.",
)
@click.option("--seeds", default="0", show_default=True, help="Separated by commas; one run each per variant.")
@click.option("--objectives", default="pro,rrhf", show_default=True, help="Separated by commas.")
@click.option("--fan-out", is_flag=True, help="Over the workers of a pool, each run with a ledger of its own.")
@SET
def ablation(  # noqa: PLR0913, PLR0917  one per option
    profile: str, grid: str, seeds: str, objectives: str, fan_out: bool, assignments: tuple[str, ...]
) -> None:
    """Run a grid of variants over seeds; finished runs are left alone, the same command does what is left."""
    from cli.local import in_process
    from cli.output import print_rows
    from cyclealign.profiles import merge, parse_overrides
    from tasks.context import load_settings

    overrides, each = parse_overrides(assignments), tuple(_seeds(seeds))
    for seed in each:  # wrong settings end here, before Prefect is started
        load_settings(profile, merge(overrides, {"seed": seed}))
    chosen = {"seeds": each, "objectives": tuple(_objectives(objectives)), "overrides": overrides}
    rows = in_process("flows.ablation:ablation", profile=profile, grid=grid, fan_out=fan_out, **chosen)
    print_rows(rows)


@click.group()
def ledger() -> None:
    """Work on the ledger as a whole."""


@ledger.command("import")
@click.argument("other", type=click.Path(path_type=Path))
def import_(other: Path) -> None:
    """Merge the finished runs of OTHER, a ledger or the home that it is in; all of them or none.

    Runs that are here already must be the very same; the second time nothing is new.
    """
    from storage.imports import merge
    from storage.ledger import Ledger
    from tasks.context import home_folder

    found = merge(Ledger(home_folder()), other)
    click.echo(f"{len(found.runs)} new runs, {found.rows} new rows: {', '.join(found.runs) or 'nothing new'}")
    if found.skipped:
        click.echo(f"Not finished and left where they are: {', '.join(found.skipped)}", err=True)


def _seeds(text: str) -> list[int]:
    from cyclealign.errors import UsageError

    parts = text.split(",")
    if not all(SEED.fullmatch(part.strip()) for part in parts):
        raise UsageError(f"--seeds {text!r}: expected whole numbers separated by commas, for example 0,1,2.")
    return [int(part) for part in parts]


def _objectives(text: str) -> list[str]:
    from cyclealign.errors import UsageError

    parts = [part.strip() for part in text.split(",")]
    if not set(parts) <= {"pro", "rrhf"}:
        raise UsageError(f"--objectives {text!r}: expected pro, rrhf or both, separated by a comma.")
    return parts


def _run_beside(entry: str, source: str, name: str, assignments: tuple[str, ...], **more: Any) -> None:
    from cli.local import in_process
    from cyclealign.profiles import parse_overrides
    from tasks.context import require_run

    overrides = parse_overrides(assignments)
    require_run(source)
    in_process(entry, source=source, run=name, overrides=overrides, **more)
    from tasks.evaluation.publication import print_end  # behind the settings that Prefect reads at its import

    print_end(name)
