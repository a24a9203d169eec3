"""The Prefect server: one kind, for a single command where none is up, and for all commands with `make up`.

On its own, Prefect answers every web page that a browser on this machine shows, by requests and by web sockets, and
clients that may create deployments there may run code. So on loopback the server checks Host and Origin; to listen
elsewhere, it needs Prefect's password. The server of a single command lets in that command, and the browser that opens
the address which the command prints: other users of the machine are kept out. Both serve the UI, and keep their
history in the home. Prefect reads its settings when it is first imported, which happens behind `prepare_environment`.
"""

import asyncio
import fcntl
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

import click
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cyclealign.errors import CycleAlignError, PrefectUnreachable, UsageError
from cyclealign.loopback import LOOPBACK, Guard, listen, refuse_open

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.settings.models.server.api import ServerAPISettings

HOST = "127.0.0.1"
COOKIE = "cyclealign_prefect"
END_S = 5
"""How long browsers, records under way and the server itself may each take when it ends."""


def prepare_environment() -> None:
    """Settings that Prefect reads when it is first imported; what the user has set stays.

    Raises:
        UsageError: a launcher started several of this process.
        StorageFull: the home cannot be written.
    """
    from cyclealign.disk import require_writable
    from tasks.context import home_folder, refuse_launcher

    refuse_launcher()
    folder = home_folder() / "prefect"
    require_writable(folder)
    os.environ.setdefault("PREFECT_HOME", str(folder))
    if quote(str(folder)) != str(folder):  # Prefect does not quote: %41 in the path would become another folder's A
        database = f"sqlite+aiosqlite:///{quote(str(folder / 'prefect.db'))}"
        os.environ.setdefault("PREFECT_SERVER_DATABASE_CONNECTION_URL", database)
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")  # the first start makes a database
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def in_process(entry: str, **parameters: Any) -> Any:
    """The result of a flow run in this process, on the server that is up or on one of its own.

    Errors of the flow are raised as they are; the terminal shows our lines alone, the run page also Prefect's.

    Args:
        entry: `module:flow`. The module is imported here, because that takes as long as a server needs to start.
        parameters: The flow's.

    Raises:
        UsageError, StorageFull: see `prepare_environment`.
        PrefectUnreachable: the Prefect server went away meanwhile.
    """
    prepare_environment()
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
    for source in ("SERVER_LOGGING", "INTERNAL_LOGGING"):
        os.environ.setdefault(f"PREFECT_{source}_LEVEL", "CRITICAL")
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    own = None if url and answers(url) else OwnServer()
    module, name = entry.split(":")
    flow = getattr(import_module(module), name).with_options(on_running=[_print_address(own)])
    logging.getLogger("prefect").propagate = False
    with own.used() if own else nullcontext(), _server_needed():
        return flow(**parameters)


def _print_address(own: "OwnServer | None") -> "Callable[[Any, FlowRun, Any], None]":
    """A hook that prints where to watch a flow run."""
    from prefect.settings import get_current_settings

    place, token = (own.url, f"?token={own.token}") if own else (get_current_settings().ui_url, "")
    return lambda _flow, run, _state: click.echo(f"Watch: {place}/runs/flow-run/{run.id}{token}", err=True)


@contextmanager
def _server_needed() -> Iterator[None]:
    """Tells a Prefect server that has gone from other failures of a connection, which pass unchanged."""
    import httpx
    from prefect.settings import get_current_settings

    try:
        yield
        return
    except httpx.TransportError as error:
        if answers(str(get_current_settings().api.url)):
            raise
        problem = str(error) or type(error).__name__
    raise PrefectUnreachable(
        f"The Prefect server went away while the flow ran: {problem}. Expected it to be there to the end. What was "
        "computed is in the ledger: the same command again continues."
    )


class OwnServer:
    """The server of this command, which starts while the command does something else; it ends with its use."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe()
        kept = {name: value for name, value in os.environ.items() if name != "PREFECT_SERVER_API_AUTH_STRING"}
        with listen(HOST, 0, "") as listening:
            self.url = f"http://{HOST}:{listening.getsockname()[1]}"
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli.server", str(listening.fileno())],
                env={**kept, "PREFECT_UI_API_URL": f"{self.url}/api"},
                pass_fds=[listening.fileno()],  # the socket itself: a port alone could be taken by another meanwhile
                stdin=subprocess.PIPE,  # closed when this process ends, in whatever way; the server ends then too
                start_new_session=True,  # Ctrl-C in the terminal would end it before the flow run that it serves
                text=True,
                bufsize=1,
            )
        print(self.token, file=self._process.stdin)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Have this process use the server for the block, once it is up.

        Raises:
            CycleAlignError: it did not start.
        """
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker
        from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_CUSTOM_HEADERS, temporary_settings

        from tasks.devices import unshared

        if not wait_for(lambda: self._process.poll() is None, f"{self.url}/api", self.token):
            raise CycleAlignError(
                "The Prefect server of this command did not start. PREFECT_SERVER_LOGGING_LEVEL=INFO shows why; "
                "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS gives it more time."
            )
        headers = {"Authorization": f"Bearer {self.token}"}
        settings: dict[Any, Any] = {PREFECT_API_URL: f"{self.url}/api", PREFECT_CLIENT_CUSTOM_HEADERS: headers}
        with temporary_settings(settings), unshared():
            try:
                yield
            finally:  # left to the end of the process, the last lines of the log were lost, with a message about it
                for worker in (EventsWorker, APILogWorker):
                    worker.drain_all(timeout=END_S, at_exit=False)
                self._stop()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=3 * END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def wait_for(alive: Callable[[], bool], url: str, token: str = "") -> bool:
    """Whether a server answers at this address of its API before it ends or its time to start is over."""
    from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS

    deadline = time.monotonic() + PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    while alive() and time.monotonic() < deadline:
        if answers(url, token):
            return True
        time.sleep(0.1)
    return False


def answers(url: str, token: str = "") -> bool:
    """Whether a Prefect server is up at this address of its API."""
    request = Request(f"{url}/health", headers={"Authorization": f"Bearer {token}"})  # noqa: S310  Prefect's own setting
    try:
        with urlopen(request, timeout=2) as response:  # noqa: S310  as above
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def require_closed(api: "ServerAPISettings") -> None:
    """Refuse settings under which anybody could use the server.

    Raises:
        UsageError: it would listen beyond loopback without a password.
    """
    remedy = "Set PREFECT_SERVER_API_AUTH_STRING, and for clients PREFECT_API_AUTH_STRING, to user:password."
    refuse_open(api.host, api.auth_string.get_secret_value() if api.auth_string else None, remedy)


def guarded(app: ASGIApp, host: str, token: str | None = None) -> ASGIApp:
    """The application with its guard; beyond loopback its password stands guard.

    With a token, a browser that opens an address with it gets a cookie, which then stands for the token.
    """
    if token is None:
        return Guard(app) if host in LOOPBACK else app
    secret, checked = token, Guard(app, token)

    async def opened(scope: Scope, receive: Receive, send: Send) -> None:
        asked = HTTPConnection(scope) if scope["type"] != "lifespan" else None
        answering: ASGIApp = checked
        if asked and secrets.compare_digest(asked.query_params.get("token", "").encode(), secret.encode()):
            answering = RedirectResponse(asked.url.path, 303)
            answering.set_cookie(COOKIE, secret, httponly=True, samesite="lax")
        elif asked and secrets.compare_digest(asked.cookies.get(COOKIE, "").encode(), secret.encode()):
            header = (b"authorization", f"Bearer {secret}".encode())
            scope = {**scope, "headers": [*scope["headers"], header]}
        await answering(scope, receive, send)

    return opened


def orderly(app: ASGIApp, folder: Path) -> ASGIApp:
    """The application, one at a time in this folder while it starts, and at its end once it has recorded all.

    Two that make Prefect's database at once fail; at its end Prefect dropped half of 600 events that had reached it.
    """
    from prefect.server.utilities.messaging.memory import METRICS

    async def living(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        with (folder / "starting.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)

            async def started(message: Message) -> None:
                fcntl.flock(lock, fcntl.LOCK_UN)
                await send(message)

            async def last() -> Message:
                message, deadline = await receive(), time.monotonic() + END_S
                while message["type"] == "lifespan.shutdown" and time.monotonic() < deadline:
                    if all(one["published"] == one["consumed"] for one in METRICS.values()):
                        break
                    await asyncio.sleep(0.05)
                return message

            await app(scope, last, started)

    return living


def main(inherited: int | None = None) -> None:
    """Serve until stopped, with the settings of `prefect.toml` and the environment.

    Args:
        inherited: Descriptor of a listening socket on which to serve one command alone, whose process writes its token
            to standard input and holds the other end for as long as it lives.
    """
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_UI_STATIC_DIRECTORY, get_current_settings, temporary_settings

    settings, token = get_current_settings(), None
    server = settings.server
    if inherited is None:
        require_closed(server.api)
    else:
        token = sys.stdin.readline().strip()
        threading.Thread(target=_end_with_command, daemon=True).start()
    # by default Prefect copies its UI to where its code is
    with temporary_settings(set_defaults={PREFECT_UI_STATIC_DIRECTORY: str(settings.home / "ui")}):
        app = create_app(final=True)
    config = uvicorn.Config(
        guarded(orderly(app, settings.home), server.api.host, token),
        host=server.api.host,
        port=server.api.port,
        timeout_keep_alive=server.api.keepalive_timeout,
        timeout_graceful_shutdown=END_S,  # a browser that has the page open would keep it
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
    )
    uvicorn.Server(config).run(sockets=None if inherited is None else [socket.socket(fileno=inherited)])


def _end_with_command() -> None:
    """Stop when standard input closes, as it does when the process that holds its other end is killed."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    try:
        main(*map(int, sys.argv[1:]))
    except UsageError as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.exit_code)
