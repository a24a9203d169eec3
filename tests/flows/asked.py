"""A judge's own account of what it was asked: which call, by whom, what the answer cost, in order of arrival.

Wraps the judge's application on the server's side, so that nothing it says comes from the client under test. A call
is told by its body; who asks is told by the key that is sent (a placeholder: the judge needs none). Used by the
tests of crash points and by the long random one, `benchmarks.chaos`.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class Asked:
    """One request, noted when it has arrived whole, and noted again when its answer was handed to the network."""

    number: int
    call: str
    asker: str
    in_flight: int
    """Requests of all askers that have no answer yet, this one included."""
    at: float
    """Seconds since the epoch."""
    answered: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0


def call_of(body: Mapping[str, Any]) -> str:
    """What tells calls apart on the server's side: a digest of the body, however it is written."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def asker_of(scope: Scope) -> str:
    """Who sent a request: the key that came with it."""
    return Headers(scope=scope).get("authorization", "").removeprefix("Bearer ")


class Counted:
    """An application whose questions are noted.

    Args:
        app: Answers.
        note: Gets each `Asked`; may do anything, for example kill who asks.
    """

    def __init__(self, app: ASGIApp, note: Callable[[Asked], None]) -> None:
        self._app = app
        self._note = note
        self._number = 0
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note a question, have it answered, note the answer."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        body = await request.body()
        call, asker = call_of(json.loads(body)), asker_of(scope)
        self._number += 1
        self._in_flight += 1
        number, answer = self._number, bytearray()
        self._note(Asked(number, call, asker, self._in_flight, time.time()))

        async def again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def heard(message: Message) -> None:
            answer.extend(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, again, heard)
        finally:
            self._in_flight -= 1
            usage = _usage(bytes(answer))
            self._note(Asked(number, call, asker, self._in_flight, time.time(), True, *usage))


def _usage(answer: bytes) -> tuple[int, int]:
    usage = json.loads(answer or b"{}").get("usage", {})
    return usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
