"""A device trains for one flow run at a time.

A GPU is locked for all runs of the machine, the CPU for those that share a Prefect server; others share it. A lock is
the operating system's, which gives it back when the process that holds it dies.
"""

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from prefect.settings import get_current_settings

from cyclealign.errors import CycleAlignError
from cyclealign.settings import Settings
from tasks.cycle.progress import say

CPU = "cpu"
_SHARED: ContextVar[bool] = ContextVar("shared", default=True)


@contextmanager
def unshared() -> Iterator[None]:
    """The Prefect server of the block serves no other run: its runs share the CPU with all others."""
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
    from cyclealign.white_box.loading import resolve_device  # noqa: PLC0415  imports torch

    first, ranks = resolve_device(settings.white_box), settings.training.ranks
    return [CPU] if first.type == "cpu" else sorted(map(_gpu, range(first.index, first.index + ranks)))


def _gpu(index: int) -> str:
    """A GPU's name: its number means another one wherever CUDA_VISIBLE_DEVICES is another."""
    import torch  # noqa: PLC0415  as above

    properties = torch.cuda.get_device_properties(index)
    return f"{properties.name} {str(properties.uuid)[:8]}"


@contextmanager
def device_slot(device: str) -> Iterator[None]:
    """Hold the device for the block; waits, and says so, while another flow run holds it.

    Raises:
        CycleAlignError: its lock cannot be opened.
    """
    if device == CPU and not _SHARED.get():
        yield
        return
    folder = get_current_settings().home if device == CPU else Path(tempfile.gettempdir())
    name = f"{device} on {socket.gethostname()}".replace("/", "-")
    handle = _lock_file(folder / f"cyclealign {name}.lock")
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"  Waiting: another run trains on {name}; this one goes on when it has done its segment")
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
            f"The lock of a device, {path}, cannot be opened: {error.strerror}. Expected a file that every user may "
            "read. Remove it, or set TMPDIR for all runs of this machine to another folder."
        ) from None
