"""Runs of a grid as deployment runs over a work pool's workers: each in a home of its own, merged when it is done.

So a grid outgrows one machine without a server of ours besides Prefect's. A worker on another machine leaves its
ledger there: `cyclealign ledger import` takes it over once it has been brought here.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType, FlowRunFilterTags
from prefect.client.schemas.objects import StateType
from prefect.deployments import run_deployment
from prefect.settings import get_current_settings

from cyclealign.errors import UsageError
from storage import imports
from storage.ledger import Ledger
from tasks.cycle.progress import say

DEPLOYMENT = "cyclealign/cell"
BUILT_ONCE = ("models", "world", "preference")
"""Folders of a home that never change once they are there."""
UNDER_WAY = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]


@dataclass(frozen=True)
class Order:
    """One run that a worker is to do."""

    run_name: str
    home: Path
    parameters: Mapping[str, Any]
    """Of the flow `train`."""


def require_server() -> None:
    """Raise `UsageError` where there is no Prefect server whose workers could take a run."""
    if not get_current_settings().api.url:
        raise UsageError("No Prefect server, expected one with workers to fan out to. Start it with `make up`.")


def prepare_home(order: Order, home: Path) -> None:
    """Make the run's home on this machine and show it what this home has built once."""
    order.home.mkdir(parents=True, exist_ok=True)
    for name in BUILT_ONCE:
        (home / name).mkdir(exist_ok=True)
        if not (order.home / name).exists():
            (order.home / name).symlink_to(home / name, target_is_directory=True)


def submit(order: Order) -> UUID:
    """Have a worker do the run, unless one is at it since an earlier call; returns the flow run's id."""
    tag = f"cell:{order.run_name}"
    found = _under_way(tag)
    if found is not None:
        return found
    flow_run: Any = run_deployment(
        DEPLOYMENT,
        parameters=dict(order.parameters),
        flow_run_name=f"train {order.run_name}",
        tags=[tag],
        job_variables={"env": {"CYCLEALIGN_HOME": str(order.home)}},
        timeout=0,
        as_subflow=False,
    )
    return UUID(str(flow_run.id))


def wait_for(flow_runs: Iterable[UUID], every_s: float = 5.0) -> None:
    """Wait until all have ended, in whatever way."""
    with get_client(sync_client=True) as client:
        for flow_run_id in flow_runs:
            while not _has_ended(client, flow_run_id):
                time.sleep(every_s)


def collect(ledger: Ledger, order: Order) -> bool:
    """Merge the run's ledger into this home's; False where it is not on this machine."""
    if not (order.home / ledger.path.name).exists():
        say(f"  The ledger of {order.run_name} is not on this machine: bring it here, `cyclealign ledger import`")
        return False
    imports.merge(ledger, order.home)
    return True


def _has_ended(client: Any, flow_run_id: UUID) -> bool:
    state = client.read_flow_run(flow_run_id).state
    return state is not None and state.is_final()


def _under_way(tag: str) -> UUID | None:
    wanted = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag]), state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY))
    )
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=wanted, limit=1)
    return UUID(str(found[0].id)) if found else None
