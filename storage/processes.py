"""Who runs something: a process's identity across restarts, and whether it still lives."""

import socket
from dataclasses import dataclass
from functools import cache

import psutil

CLOCK_TOLERANCE_S = 2.0
"""A process's start is computed from the boot time, which moves a little when the clock is corrected."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process; its start tells a reused process id apart."""

    host: str
    pid: int
    started_at: float
    """Seconds since the epoch."""

    def lives(self) -> bool | None:
        """Whether the process runs on this host; None for another host, where nobody here can know."""
        if self.host != socket.gethostname():
            return None
        try:
            found = psutil.Process(self.pid)
            zombie = found.status() == psutil.STATUS_ZOMBIE
            return not zombie and abs(found.create_time() - self.started_at) < CLOCK_TOLERANCE_S
        except psutil.NoSuchProcess:
            return False


def current() -> ProcessIdentity:
    """The identity of this process."""
    return _identity(psutil.Process().pid)


@cache
def _identity(pid: int) -> ProcessIdentity:  # keyed by the id: a forked child must not inherit its parent's
    return ProcessIdentity(socket.gethostname(), pid, psutil.Process(pid).create_time())


def describe(pid: int) -> str:
    """`process 4711 (python -m …)`, or only the number when the command cannot be read."""
    try:
        command = " ".join(" ".join(psutil.Process(pid).cmdline()).split())
    except psutil.Error:
        command = ""
    return f"process {pid} ({command[:120]})" if command else f"process {pid}"
