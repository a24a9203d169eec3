"""A device trains for one flow run at a time, and flow runs that died unseen are marked as crashed.

On the server of `make up`, slots are Prefect global concurrency limits named after the devices, so that the UI shows
who trains. A GPU is locked besides by a file, which also holds runs apart that share no server, and which the
operating system gives back when a process dies. A CPU is shared by whoever wants it, unless a server limits it.
"""

import fcntl
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path

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

from cyclealign.errors import CycleAlignError
from cyclealign.settings import Settings
from tasks.cycle.progress import say

CPU = "cpu"
AUTOMATION = "cyclealign-crash-zombies"
MISSED_HEARTBEATS = 3
"""One may be late on a busy machine."""
LEASE_S = 60.0
"""After which a slot is free again whose holder died; Prefect allows no less."""
PATIENCE_S = 3.0
"""Before it is said that a slot is waited for."""
_SHARED: ContextVar[bool] = ContextVar("shared", default=True)


def slot_name(device: str) -> str:
    """The concurrency limit of a device of this machine, for example `cpu on host`."""
    return f"{device} on {socket.gethostname()}".replace("/", "-")


def devices() -> list[str]:
    """The devices of this machine that a run can train on."""
    import torch  # noqa: PLC0415  `make up` alone needs no torch

    return [CPU, *map(gpu, range(torch.cuda.device_count()))]


def gpu(index: int) -> str:
    """A GPU's name: its number means another one wherever CUDA_VISIBLE_DEVICES is another."""
    import torch  # noqa: PLC0415  as above

    properties = torch.cuda.get_device_properties(index)
    return f"{properties.name} {str(properties.uuid)[:8]}"


def create_slots() -> None:
    """Create the limit of each device, one slot each, where it does not exist yet."""
    with get_client(sync_client=True) as client:
        for device in devices():
            try:
                client.read_global_concurrency_limit_by_name(slot_name(device))
            except ObjectNotFound:
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=slot_name(device), limit=1))


@contextmanager
def unshared() -> Iterator[None]:
    """For flows on a server of their own: nobody else asks it, and a slot would outlive the server if it died."""
    token = _SHARED.set(False)
    try:
        yield
    finally:
        _SHARED.reset(token)


@contextmanager
def device_slots(settings: Settings) -> Iterator[None]:
    """Hold every device that the run's ranks train on; in one order, so that two runs never wait for each other."""
    with ExitStack() as held:
        for device in devices_of(settings):
            held.enter_context(device_slot(device))
        yield


def devices_of(settings: Settings) -> list[str]:
    """The devices of this machine that the run's ranks train on."""
    from cyclealign.white_box.loading import resolve_device  # noqa: PLC0415  `make up` alone needs no torch

    first, ranks = resolve_device(settings.white_box), settings.training.ranks
    return [CPU] if first.type == "cpu" else sorted(map(gpu, range(first.index, first.index + ranks)))


@contextmanager
def device_slot(device: str) -> Iterator[None]:
    """Hold the device for the block; waits, and says so, while another flow run holds it.

    A process that died gives its slot on a shared server back a minute later, and a GPU at once.
    """
    with ExitStack() as held:
        if device != CPU:
            held.enter_context(_locked(device))
        if _SHARED.get():
            held.enter_context(_server_slot(device))
        yield


@contextmanager
def _locked(device: str) -> Iterator[None]:
    handle = _lock_file(Path(tempfile.gettempdir()) / f"cyclealign {slot_name(device)}.lock")
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say_waiting(device)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _lock_file(path: Path) -> int:
    """A file that every user of the machine can open and none can change; stays when it is not used."""
    try:
        with suppress(FileExistsError):
            handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.fchmod(handle, 0o644)  # whatever the umask
            return handle
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise CycleAlignError(
            f"The lock of a GPU, {path}, cannot be opened: {error.strerror}. Expected a file that every user may read. "
            "Remove it, or set TMPDIR for all runs of this machine to another folder."
        ) from None


@contextmanager
def _server_slot(device: str) -> Iterator[None]:
    """Without a limit of that name nothing is waited for; a renewal that fails does not end the training.

    It is asked for once: a request given up after a while may be granted all the same, and its slot would be waited for
    until the lease is over.
    """
    waiting = threading.Timer(PATIENCE_S, _say_waiting, [device])
    waiting.daemon = True
    with ExitStack() as held:
        waiting.start()
        try:
            held.enter_context(
                concurrency(slot_name(device), lease_duration=LEASE_S, raise_on_lease_renewal_failure=False)
            )
        finally:
            waiting.cancel()
        yield


def _say_waiting(device: str) -> None:
    say(f"  Waiting: another run trains on {slot_name(device)}; this one goes on when it has done its segment")


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
        name=None, force=False, state=StateType.CRASHED, message=f"No heartbeat for {patience.seconds} seconds."
    )
    Automation(name=AUTOMATION, trigger=trigger, actions=[action]).create()


def _exists() -> bool:
    with get_client(sync_client=True) as client:
        return bool(client.read_automations_by_name(AUTOMATION))
