"""The Prefect server: Prefect's application as `prefect server start` runs it, behind a guard.

On its own, Prefect answers every web page that a browser on this machine shows, by requests and by web sockets,
and whoever may create deployments there may run code. So on loopback, Host and Origin are checked; to listen
elsewhere, Prefect needs its password. Called as `python -m cli.server` by `cli.service`, and with a socket of its
own by `cli.own_server`.
"""

import os
import signal
import socket
import sys
import threading

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings
from prefect.settings.models.server.api import ServerAPISettings
from starlette.types import ASGIApp

from cyclealign.errors import UsageError
from cyclealign.loopback import LOOPBACK, Guard, refuse_open

REMEDY = "Set PREFECT_SERVER_API_AUTH_STRING, and for clients PREFECT_API_AUTH_STRING, to user:password."


def require_closed(api: ServerAPISettings) -> None:
    """Refuse settings under which anybody could use the server.

    Raises:
        UsageError: it would listen beyond loopback without a password.
    """
    refuse_open(api.host, api.auth_string.get_secret_value() if api.auth_string else None, REMEDY)


def guarded(app: ASGIApp, api: ServerAPISettings) -> ASGIApp:
    """The application with its guard; beyond loopback its password stands guard."""
    return Guard(app) if api.host in LOOPBACK else app


def main(inherited: int | None = None) -> None:
    """Serve until stopped, with the settings of `prefect.toml` and the environment.

    Args:
        inherited: Descriptor of a listening socket on which to serve one command alone, whose process holds the
            other end of standard input.
    """
    server = get_current_settings().server
    require_closed(server.api)
    if inherited is not None:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    config = uvicorn.Config(
        guarded(create_app(final=True, ephemeral=inherited is not None), server.api),
        host=server.api.host,
        port=server.api.port,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
    )
    uvicorn.Server(config).run(sockets=None if inherited is None else [socket.socket(fileno=inherited)])


def _end_with_parent() -> None:
    """Stop when standard input closes, as it does when the process that holds its other end is killed."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    try:
        main(*map(int, sys.argv[1:]))
    except UsageError as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.exit_code)
