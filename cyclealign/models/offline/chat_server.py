"""Puts an offline judge behind the chat-completions protocol: an ASGI application, and a server for it.

The black box calls the application in-process; `serve` offers the same to any client over HTTP. Errors have
OpenAI's format. Answering is computation, so it happens one request at a time in a worker thread while the
event loop stays free.
"""

import json
import secrets
from typing import Any

import anyio.to_thread
import uvicorn
from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cyclealign.errors import UsageError
from cyclealign.models.offline.judge import Judge, RequestUnreadable

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def create_app(judge: Judge, model_name: str) -> Starlette:
    """An application that answers `POST /v1/chat/completions` and `GET /v1/models`.

    `app.state.model` is the model name that it answers to.
    """
    one_at_a_time = CapacityLimiter(1)

    async def complete(request: Request) -> JSONResponse:
        try:
            body = json.loads(await request.body())
        except ValueError:
            return _error(400, "The body is not JSON, expected a chat-completions request.", "invalid_json")
        if not isinstance(body, dict):
            return _error(400, f"The body is {type(body).__name__}, expected an object.", "invalid_json")
        if body.get("model") != model_name:
            message = f"The model {body.get('model')!r} does not exist here, expected {model_name!r}."
            return _error(404, message, "model_not_found")
        try:
            answer = await anyio.to_thread.run_sync(judge.answer, body, limiter=one_at_a_time)
        except RequestUnreadable as error:
            return _error(400, str(error), "unreadable_request")
        return JSONResponse(answer)

    async def models(_: Request) -> JSONResponse:
        entry = {"id": model_name, "object": "model", "created": 0, "owned_by": "cyclealign"}
        return JSONResponse({"object": "list", "data": [entry]})

    app = Starlette(
        routes=[Route("/v1/chat/completions", complete, methods=["POST"]), Route("/v1/models", models)]
    )
    app.state.model = model_name
    return app


def serve(app: ASGIApp, port: int, host: str = "127.0.0.1", token: str | None = None) -> None:
    """Serves the application over HTTP until interrupted.

    Args:
        app: As `create_app` made it.
        port: TCP port.
        host: Address to listen on.
        token: Bearer token that every request must carry; needed to listen beyond loopback.

    Raises:
        UsageError: `host` is not loopback and there is no token.
    """
    if host not in LOOPBACK and not token:
        raise UsageError(
            f"The judge would listen on {host} for anybody. Expected a loopback address, or a token that"
            " clients have to send."
        )
    uvicorn.run(Guard(app, token), host=host, port=port, log_level="warning", access_log=False)


class Guard:
    """Lets only those in who were meant: loopback names without an origin elsewhere, or bearers of the token.

    The checks of `Host` and `Origin` keep web pages in a browser on this machine from using the judge.
    """

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 401 or 403."""
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        if self._token is not None:
            sent = headers.get("authorization", "").removeprefix("Bearer ")
            if not secrets.compare_digest(sent.encode(), self._token.encode()):
                return _error(401, "The bearer token is missing or wrong.", "invalid_api_key")
        elif _name(headers.get("host", "")) not in LOOPBACK:
            return _error(
                403, "The Host header names another machine, expected a loopback name.", "wrong_host"
            )
        origin = headers.get("origin")
        if origin is not None and _name(origin.partition("://")[2]) not in LOOPBACK:
            return _error(403, "The request comes from a page of another origin.", "wrong_origin")
        return None


def _name(authority: str) -> str:
    """The host of `host`, `host:port` or `[address]:port`."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _error(status: int, message: str, code: str) -> JSONResponse:
    """An error in OpenAI's format."""
    body: dict[str, Any] = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": body}, status_code=status)
