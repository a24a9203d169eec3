"""A Prefect server for one command alone, where none is up: behind a guard and a password, gone when the command is.

Prefect would start one itself, but in the terminal's process group, where Ctrl-C ends it before the flow run that
it serves; open to every page in a browser; and left over when the command is killed. Called by `cli.local`.
"""

import atexit
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from socket import socket
from urllib.error import URLError
from urllib.request import urlopen

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from cyclealign.errors import CycleAlignError
from cyclealign.loopback import listen

HOST = "127.0.0.1"
DRAIN_S = 5.0


class OwnServer:
    """A server that starts while its command does something else."""

    def __init__(self) -> None:
        self._password = f"cyclealign:{secrets.token_urlsafe()}"
        with listen(HOST, 0, "") as listening:
            self._url = f"http://{HOST}:{listening.getsockname()[1]}/api"
            self._process = _start(listening, self._password)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Have this process use the server for the block, once it is up.

        Raises:
            CycleAlignError: it did not start.
        """
        from tasks.devices import unshared

        _wait(self._process, self._url)
        settings = {PREFECT_API_URL: self._url, PREFECT_API_AUTH_STRING: self._password}
        with temporary_settings(settings), unshared():
            try:
                yield
            finally:
                _send_the_rest()

    def stop(self) -> None:
        """Have it end. That takes a second, for which only the end of this process waits."""
        self._process.terminate()
        atexit.register(self.wait)

    def wait(self) -> None:
        """Wait until it has ended; one that does not is killed."""
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def own_server() -> Iterator[OwnServer]:
    """Start a server, and stop it at the end of the block."""
    server = OwnServer()
    try:
        yield server
    finally:
        server.stop()


def _start(listening: socket, password: str) -> "subprocess.Popen[bytes]":
    changes = {
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_UI_ENABLED": "0",
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "0",  # nobody has automations on a server of one command
    }
    return subprocess.Popen(
        [sys.executable, "-m", "cli.server", str(listening.fileno())],
        env={**os.environ, **changes},
        pass_fds=[listening.fileno()],  # the socket itself: a port alone could be taken by another meanwhile
        stdin=subprocess.PIPE,  # closed when this process ends, in whatever way; the server ends then too
        start_new_session=True,
    )


def _wait(server: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    while not answers(url):
        if server.poll() is not None or time.monotonic() > deadline:
            raise CycleAlignError(
                "The Prefect server of this command did not start. PREFECT_SERVER_LOGGING_LEVEL=INFO shows why; "
                "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS gives it more time."
            )
        time.sleep(0.1)


def _send_the_rest() -> None:
    """Events and log lines under way; left to the end of the process, they would wait for a server that is gone."""
    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=DRAIN_S, at_exit=False)


def answers(url: str) -> bool:
    """Whether a Prefect server is up at this address of its API."""
    try:
        with urlopen(f"{url}/health", timeout=2) as response:  # noqa: S310  the address is Prefect's own setting
            return bool(response.status == 200)
    except (URLError, OSError):
        return False
