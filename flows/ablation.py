"""A grid of runs that differ in one choice of the method, over seeds: Table 4, Figure 5, and two controls."""

from collections.abc import Sequence
from typing import Any, Literal

from prefect import flow

from cyclealign.ablation_grids import Cell, Variant, cells
from cyclealign.errors import CycleAlignError, GridIncomplete, RunPaused
from cyclealign.profiles import merge
from flows.train import train
from storage import runs
from storage.ledger import Ledger
from tasks.context import RunContext, home_folder, load_settings, new_run
from tasks.cycle.progress import say
from tasks.evaluation.publication import publish_exhibits
from tasks.studies import fan_out as fanning
from tasks.studies.fan_out import Order


@flow(name="cyclealign", flow_run_name="ablation {grid} of {profile}", validate_parameters=True)
def ablation(  # noqa: PLR0913, PLR0917  a form's fields
    profile: str = "laptop",
    grid: Literal["table-4", "figure-5", "controls"] = "table-4",
    seeds: tuple[int, ...] = (0,),
    objectives: tuple[Literal["rrhf", "pro"], ...] = ("pro", "rrhf"),
    overrides: dict[str, Any] | None = None,
    fan_out: bool = False,
) -> list[dict[str, Any]]:
    """Run a grid, one run after another or over the workers of a pool; finished runs are left alone.

    Args:
        profile: A name in `profiles/`, or a path to a YAML file of the same form.
        grid: `table-4`: demonstrations full, static, off; `figure-5`: N = 1 to 7; `controls`: without the ranking term,
            without the rewrite.
        seeds: Each gives one run per variant.
        objectives: L_rank; each gives a grid of its own.
        overrides: Settings laid over the profile in every run.
        fan_out: As runs of the deployment `cyclealign/cell`, each with a home and a ledger of its own.
    """
    laid_over = overrides or {}
    base = load_settings(profile, laid_over)
    wanted = cells(base.profile, grid, Variant.of(base.method), objectives, seeds)
    orders = [order(profile, laid_over, cell) for cell in wanted]
    left = [one for one in orders if not finished(one)]
    say(f"Grid {grid} of {profile}: {len(wanted)} runs, {len(left)} to do")
    failed = spread(left) if fan_out else one_after_another(left)
    if failed:
        listed = "\n".join(failed)
        raise GridIncomplete(
            f"{len(failed)} of {len(wanted)} runs did not finish:\n{listed}\nThe others are complete; the same command "
            "does what is left."
        )
    ledger = Ledger(home_folder())
    publish_exhibits(ledger, ("figure-5" if grid == "figure-5" else "table-4",))
    return [runs.status(ledger, cell.run_name)[0].as_dict() for cell in wanted]


def order(profile: str, overrides: dict[str, Any], cell: Cell) -> Order:
    """What `train` is to be called with."""
    parameters = {"profile": profile, "overrides": merge(overrides, cell.overrides), "run": cell.run_name}
    return Order(cell.run_name, home_folder() / "cells" / cell.run_name, parameters)


def finished(one: Order) -> bool:
    """Whether the ledger has this run, complete; all settings are validated here, before anything starts.

    Raises:
        ProfileInvalid: the settings do not validate.
        SettingsChanged: the run is there with other settings.
    """
    settings = load_settings(one.parameters["profile"], one.parameters["overrides"])
    context = RunContext(home_folder(), one.run_name, settings, Ledger(home_folder()))
    known = {run.name: run.state for run in runs.status(context.ledger)}
    if one.run_name in known:
        runs.refuse_changed(runs.get(context.ledger, one.run_name), new_run(context))
    return known.get(one.run_name) == "complete"


def one_after_another(orders: Sequence[Order]) -> list[str]:
    """Run them in this process; one that fails leaves the others their turn, one that pauses does not."""
    failed = []
    for one in orders:
        try:
            train(**one.parameters)
        except RunPaused:
            raise  # budget, quota or key: the next one would meet the same
        except CycleAlignError as error:
            failed.append(f"  {one.run_name}: {error}")
    return failed


def spread(orders: Sequence[Order]) -> list[str]:
    """Have workers run them, wait, and merge what they brought."""
    fanning.require_server()
    ledger = Ledger(home_folder())
    for one in orders:
        fanning.prepare_home(one, home_folder())
    fanning.wait_for([fanning.submit(one) for one in orders])
    problems = {one.run_name: _problem(ledger, one) for one in orders}
    return [f"  {name}: not merged{problem}" for name, problem in problems.items() if problem is not None]


def _problem(ledger: Ledger, one: Order) -> str | None:
    """Merge the run; what to say where it is not here, complete, afterwards."""
    try:
        collected = fanning.collect(ledger, one)
    except CycleAlignError as error:  # of this cell alone: the others have their turn
        return f": {error}"
    states = {run.name: run.state for run in runs.status(ledger)}
    return None if collected and states.get(one.run_name) == "complete" else ""
