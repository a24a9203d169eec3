"""Who may talk to the servers that the project starts: this machine alone, or bearers of a token.

A server on loopback is still within reach of every page in a browser on this machine, so the names under which
it is addressed and the pages that address it are checked too. Called by whoever starts a server (the offline
judge, the Prefect server); leaves out what the servers do.
"""

import secrets
import socket
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cyclealign.errors import UsageError

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def refuse_open(host: str, token: str | None, remedy: str) -> None:
    """Refuse a server that anybody could talk to; `remedy` says how a token is given.

    Raises:
        UsageError: `host` is not loopback and there is no token.
    """
    if host not in LOOPBACK and not token:
        raise UsageError(
            f"The server would listen on {host} for anybody. Expected a loopback address "
            f"({', '.join(sorted(LOOPBACK))}), or a token that clients have to send. {remedy}"
        )


def listen(host: str, port: int, remedy: str) -> socket.socket:
    """A socket that listens on a TCP port of this machine; port 0 is any free one.

    `remedy` says how another address or port is chosen.

    Raises:
        UsageError: the address is not this machine's, or the port is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        problem = error.strerror or str(error)
    raise UsageError(
        f"Cannot listen on {host}, port {port}: {problem}. Expected an address of this machine and a free port. "
        f"{remedy}"
    )


def serve(app: ASGIApp, listening: socket.socket, patience_s: int | None = None) -> None:
    """Serve an application over HTTP until interrupted.

    Args:
        app: Behind whatever lets only those in who were meant.
        listening: As `listen` opened it.
        patience_s: How long requests under way may take once interrupted, seconds; None: until they end.

    Raises:
        KeyboardInterrupt: in the end. Uvicorn raises the interrupt once more when it has ended; once that was lost.
    """
    import uvicorn  # noqa: PLC0415  most of those who ask about loopback serve nothing

    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=patience_s)
    uvicorn.Server(config).run(sockets=[listening])
    raise KeyboardInterrupt


class Guard:
    """Lets only those in who were meant: loopback names without an origin elsewhere, or bearers of the token.

    The checks of `Host` and `Origin` keep web pages in a browser on this machine from using the server, also
    those whose own name was made to point here. Web sockets are checked like requests, because browsers let
    every page open them.
    """

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401 or 403."""
        checked = scope["type"] in ("http", "websocket")
        refusal = self._refusal(Headers(scope=scope)) if checked else None
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":  # closed before it was accepted, which servers answer with a 403
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, send)

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        if self._token is not None:
            sent = headers.get("authorization", "").removeprefix("Bearer ")
            if not secrets.compare_digest(sent.encode(), self._token.encode()):
                return error_response(401, "The bearer token is missing or wrong.", "invalid_api_key")
        elif _name(headers.get("host", "")) not in LOOPBACK:
            return error_response(403, "The Host header names another machine, expected a loopback name.", "wrong_host")
        return self._foreign_page(headers)

    def _foreign_page(self, headers: Headers) -> JSONResponse | None:
        origin = headers.get("origin")
        if origin is None or _name(origin.partition("://")[2]) in LOOPBACK:
            return None
        return error_response(403, "The request comes from a page of another origin.", "wrong_origin")


def _name(authority: str) -> str:
    """The host of `host`, `host:port` or `[address]:port`."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0].lower()


def error_response(status: int, message: str, code: str) -> JSONResponse:
    """An error in OpenAI's format."""
    body: dict[str, Any] = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": body}, status_code=status)
