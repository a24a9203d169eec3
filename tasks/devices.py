"""One flow run trains on a device at a time, and flow runs that died unseen are marked as crashed.

Slots are Prefect global concurrency limits named after the devices; without a server there is nobody to share with,
and nothing is limited.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import StateType
from prefect.concurrency.sync import concurrency
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

AUTOMATION = "cyclealign-crash-zombies"
MISSED_HEARTBEATS = 3
"""One may be late on a busy machine."""


def slot_name(device: str) -> str:
    """The concurrency limit of a device of this machine, for example `cuda:0 on host`."""
    return f"{device} on {socket.gethostname()}".replace("/", "-")


def devices() -> list[str]:
    """The devices of this machine that a run can train on."""
    import torch  # noqa: PLC0415  `make up` alone needs no torch

    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def create_slots() -> None:
    """Create the limit of each device, one slot each, where it does not exist yet."""
    with get_client(sync_client=True) as client:
        for device in devices():
            try:
                client.read_global_concurrency_limit_by_name(slot_name(device))
            except ObjectNotFound:
                client.create_global_concurrency_limit(
                    GlobalConcurrencyLimitCreate(name=slot_name(device), limit=1)
                )


@contextmanager
def device_slot(device: str) -> Iterator[None]:
    """Hold the device's slot; waits while another flow run holds it. No limit of that name: no waiting."""
    with concurrency(slot_name(device), occupy=1, strict=False):
        yield


def create_heartbeat_automation() -> None:
    """Mark a flow run as crashed when it has missed three heartbeats (Prefect's recommended automation).

    Where heartbeats are turned off there is nothing to miss, and no automation.
    """
    frequency = get_current_settings().flows.heartbeat_frequency
    if frequency is None or _exists():
        return
    patience = timedelta(seconds=MISSED_HEARTBEATS * frequency)
    trigger = EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.*"},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=patience,
    )
    action = ChangeFlowRunState(
        name=None,
        force=False,
        state=StateType.CRASHED,
        message=f"No heartbeat for {patience.seconds} seconds.",
    )
    Automation(name=AUTOMATION, trigger=trigger, actions=[action]).create()


def _exists() -> bool:
    with get_client(sync_client=True) as client:
        return bool(client.read_automations_by_name(AUTOMATION))
