"""A grid of runs that differ in one choice of the method, over seeds: Table 4, Figure 5, and two controls."""

from collections.abc import Sequence
from typing import Any, Literal

from prefect import flow

from cyclealign.errors import CycleAlignError, GridIncomplete, RunPaused
from flows.train import train
from storage import runs
from storage.ledger import Ledger
from tasks.context import RunContext, home_folder, load_settings, new_run
from tasks.cycle.progress import say
from tasks.evaluation.publication import publish_exhibits
from tasks.studies import grids
from tasks.studies.grids import Cell


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
    wanted = grids.cells(profile, grid, overrides or {}, objectives, seeds)
    left = [cell for cell in wanted if not finished(cell)]
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


def finished(cell: Cell) -> bool:
    """Whether the ledger has this run, complete; validates all settings, before anything starts.

    Raises:
        ProfileInvalid: the settings do not validate.
        SettingsChanged: the run is there with other settings.
    """
    settings = load_settings(cell.parameters["profile"], cell.parameters["overrides"])
    context = RunContext(home_folder(), cell.run_name, settings, Ledger(home_folder()))
    known = {run.name: run.state for run in runs.status(context.ledger)}
    if cell.run_name in known:
        runs.refuse_changed(runs.get(context.ledger, cell.run_name), new_run(context))
    return known.get(cell.run_name) in runs.DONE


def one_after_another(cells: Sequence[Cell]) -> list[str]:
    """Run them in this process; one that fails leaves the others their turn, one that pauses does not."""
    failed = []
    for cell in cells:
        try:
            train(**cell.parameters)
        except RunPaused:
            raise  # budget, quota or key: the next one would meet the same
        except CycleAlignError as error:
            failed.append(f"  {cell.run_name}: {error}")
    return failed


def spread(cells: Sequence[Cell]) -> list[str]:
    """Have workers run them, wait, and merge what they brought."""
    grids.require_server()
    ledger, failed = Ledger(home_folder()), []
    for cell in cells:
        grids.prepare_home(cell)
    grids.wait_for([grids.submit(cell) for cell in cells])
    for cell in cells:
        collected, problem = False, ""
        try:
            collected = grids.collect(ledger, cell)
        except CycleAlignError as error:  # of this cell alone: the others have their turn
            problem = f": {error}"
        states = {run.name: run.state for run in runs.status(ledger)}
        if not collected or states.get(cell.run_name) not in runs.DONE:
            failed.append(f"  {cell.run_name}: not merged{problem}")
    return failed
