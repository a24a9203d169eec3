"""Grids of runs that differ in one choice of the method: which cells there are, and doing them on a pool's workers.

A cell's name tells everything in which cells differ, so that grids share the cells they have in common and the same
command finds its finished runs again. As deployment runs, each cell has a home of its own, merged when it is done: a
grid outgrows one machine without a server of ours besides Prefect's. A worker on another machine leaves its ledger
there: `cyclealign ledger import` takes it over once it has been brought here. Paper: Section 4.3, 4.4.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType, FlowRunFilterTags
from prefect.client.schemas.objects import StateType
from prefect.deployments import run_deployment
from prefect.settings import get_current_settings

from cyclealign.errors import UsageError
from cyclealign.profiles import merge
from cyclealign.settings import MethodSettings
from storage import imports
from storage.ledger import Ledger
from tasks.context import home_folder, load_settings
from tasks.cycle.progress import say

Grid = Literal["table-4", "figure-5", "controls"]
Objective = Literal["rrhf", "pro"]
MOST_ROUNDS = 7
"""Figure 5 varies N from 1 to 7."""
CHOICES = ("objective", "icl", "rewrite", "rounds")
"""The settings of the method in which the cells of all grids differ."""
DEPLOYMENT = "cyclealign/cell"
BUILT_ONCE = ("models", "world", "preference")
"""Folders of a home that never change once they are there."""
UNDER_WAY = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    run_name: str
    parameters: Mapping[str, Any]
    """Of the flow `train`."""

    @property
    def home(self) -> Path:
        """Where a worker does it."""
        return home_folder() / "cells" / self.run_name


def cells(
    profile: str, grid: Grid, overrides: Mapping[str, Any], objectives: Sequence[Objective], seeds: Sequence[int]
) -> list[Cell]:
    """The runs of a grid, all variants of a seed before the next seed, so that early stops leave whole seeds.

    Args:
        profile: Its name begins the names of the runs.
        grid: `table-4`: demonstrations full, static, off; `figure-5`: N = 1 to 7; `controls`: the whole method, SFT on
            the rewrites alone, ranking without a rewrite.
        overrides: Settings laid over the profile in every run.
        objectives: L_rank; each gives a grid of its own.
        seeds: Each gives all variants.
    """
    base, found = load_settings(profile, overrides), dict[str, Cell]()
    for seed in seeds:
        for objective in objectives:
            for variant in _variants(grid, base.method.model_copy(update={"objective": objective})):
                name = f"{base.profile}-{_name(variant)}-seed{seed}"
                method = {choice: getattr(variant, choice) for choice in CHOICES}
                laid_over = merge(overrides, {"seed": seed, "method": method})
                found[name] = Cell(name, {"profile": profile, "overrides": laid_over, "run": name})
    return list(found.values())


def _variants(grid: Grid, base: MethodSettings) -> list[MethodSettings]:
    if grid == "table-4":
        return [base.model_copy(update={"icl": icl}) for icl in ("full", "static", "off")]
    if grid == "figure-5":
        return [base.model_copy(update={"rounds": rounds}) for rounds in range(1, MOST_ROUNDS + 1)]
    return [base, base.model_copy(update={"objective": "none"}), base.model_copy(update={"rewrite": "off"})]


def _name(variant: MethodSettings) -> str:
    rewrite = variant.rewrite.replace("_", "-")
    return f"{variant.objective}-icl-{variant.icl}-rewrite-{rewrite}-n{variant.rounds}"


def require_server() -> None:
    """Raise `UsageError` where there is no Prefect server whose workers could take a run."""
    if not get_current_settings().api.url:
        raise UsageError("No Prefect server, expected one with workers to fan out to. Start it with `make up`.")


def prepare_home(cell: Cell) -> None:
    """Make the cell's home on this machine and show it what this home has built once."""
    cell.home.mkdir(parents=True, exist_ok=True)
    for name in BUILT_ONCE:
        built = home_folder() / name
        built.mkdir(exist_ok=True)
        if not (cell.home / name).exists():
            (cell.home / name).symlink_to(built, target_is_directory=True)


def submit(cell: Cell) -> UUID:
    """Have a worker do the run, unless one is at it since an earlier call; returns the flow run's id."""
    tag = f"cell:{cell.run_name}"
    under_way = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag]), state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY))
    )
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=under_way, limit=1)
    if found:
        return UUID(str(found[0].id))
    flow_run: Any = run_deployment(
        DEPLOYMENT,
        parameters=dict(cell.parameters),
        flow_run_name=f"train {cell.run_name}",
        tags=[tag],
        job_variables={"env": {"CYCLEALIGN_HOME": str(cell.home)}},
        timeout=0,
        as_subflow=False,
    )
    return UUID(str(flow_run.id))


def wait_for(flow_runs: Iterable[UUID], every_s: float = 5.0) -> None:
    """Wait until all have ended, in whatever way."""
    with get_client(sync_client=True) as client:
        for flow_run_id in flow_runs:
            while (state := client.read_flow_run(flow_run_id).state) is None or not state.is_final():
                time.sleep(every_s)


def collect(ledger: Ledger, cell: Cell) -> bool:
    """Merge the cell's ledger into this home's; False where it is not on this machine."""
    if Ledger(cell.home).is_empty():
        say(f"  The ledger of {cell.run_name} is not on this machine: bring it here, `cyclealign ledger import`")
        return False
    imports.merge(ledger, cell.home)
    return True
