"""A chat-completions server on loopback that answers rankings well, or fails in the way it is told to.

The plan names the behaviour of each request, a key of `FAULTS`. Everything that arrives is counted.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from cyclealign.method.ranking_prompt import parse_ranking_prompt

Plan = Callable[[int, dict[str, Any]], str]
"""From the number of the request, counted from 0, and its body to the name of a behaviour."""
USAGE = {"prompt_tokens": 100, "completion_tokens": 20}
SLOW_S = 0.3
HANG_S = 30.0


@dataclass
class Exchange:
    """One request as it arrives, and the means to answer it."""

    scope: Scope
    receive: Receive
    send: Send
    body: dict[str, Any]
    released: threading.Event

    async def reply(self, response: Response) -> None:
        """Answer in full."""
        await response(self.scope, self.receive, self.send)

    def abort(self) -> None:
        """Cut the connection; `receive` is a method of uvicorn's request cycle, which holds the transport."""
        self.receive.__self__.transport.abort()  # type: ignore[attr-defined]


def ranking_of(prompt: str) -> list[int]:
    """The server's opinion: positions by the alphabetical order of the responses."""
    responses = parse_ranking_prompt(prompt).responses
    return sorted(range(len(responses)), key=lambda position: responses[position])


def completion(content: str | None, **choice: Any) -> dict[str, Any]:
    """A chat-completion object with this content; keywords change its only choice."""
    message = {"role": "assistant", "content": content, "refusal": choice.pop("refusal", None)}
    only = {"index": 0, "finish_reason": "stop", "message": message, **choice}
    return {"id": "1", "object": "chat.completion", "model": "served-model", "choices": [only], "usage": USAGE}


def answer(ranking: Any, rewrite: str = "A better response.") -> str:
    """The content that a ranking prompt asks for."""
    return json.dumps({"desired rank": ranking, "response": rewrite})


def _error(status: int, message: str, code: str | None = None, **headers: str) -> Response:
    body = {"error": {"message": message, "type": code, "code": code, "param": None}}
    return JSONResponse(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def _says(content: Callable[[list[int]], str | None], **choice: Any) -> Callable[[Exchange], Awaitable[None]]:
    async def behave(exchange: Exchange) -> None:
        ranking = ranking_of(exchange.body["messages"][-1]["content"])
        await exchange.reply(JSONResponse(completion(content(ranking), **dict(choice))))

    return behave


def _sends(response: Callable[[], Response]) -> Callable[[Exchange], Awaitable[None]]:
    async def behave(exchange: Exchange) -> None:
        await exchange.reply(response())

    return behave


async def _reset(exchange: Exchange) -> None:
    exchange.abort()


async def _truncated_body(exchange: Exchange) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
    await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": b'{"choices": [', "more_body": True})
    await asyncio.sleep(0.02)
    exchange.abort()


async def _slow_first_byte(exchange: Exchange) -> None:
    await asyncio.sleep(SLOW_S)
    await FAULTS["good"](exchange)


async def _held(exchange: Exchange) -> None:
    await asyncio.to_thread(exchange.released.wait, HANG_S)
    await FAULTS["good"](exchange)


async def _hang(exchange: Exchange) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(_gone(exchange), HANG_S)


async def _gone(exchange: Exchange) -> None:
    while (await exchange.receive())["type"] != "http.disconnect":
        pass


async def _no_usage(exchange: Exchange) -> None:
    ranking = ranking_of(exchange.body["messages"][-1]["content"])
    await exchange.reply(JSONResponse({**completion(answer(ranking)), "usage": None}))


def _authorization(exchange: Exchange) -> str:
    return str(dict(exchange.scope["headers"])[b"authorization"].decode())


async def _refuses_the_key(exchange: Exchange) -> None:
    await exchange.reply(_error(401, f"bad key {_authorization(exchange)}", "invalid_api_key"))


async def _echo(exchange: Exchange) -> None:
    await exchange.reply(JSONResponse(completion(_authorization(exchange))))


FAULTS: dict[str, Callable[[Exchange], Awaitable[None]]] = {
    "good": _says(answer),
    "rate limit": _sends(lambda: _error(429, "slow down", "rate_limit_exceeded")),
    "rate limit, retry-after": _sends(lambda: _error(429, "slow down", retry_after="0.1")),
    "rate limit, retry-after-ms": _sends(lambda: _error(429, "slow down", retry_after_ms="50")),
    "rate limit, a day": _sends(lambda: _error(429, "come back tomorrow", retry_after="86400")),
    "500": _sends(lambda: _error(500, "internal")),
    "502": _sends(lambda: Response("<html>bad gateway</html>", 502)),
    "503": _sends(lambda: _error(503, "overloaded", retry_after="0.05")),
    "reset": _reset,
    "slow first byte": _slow_first_byte,
    "held": _held,
    "hang": _hang,
    "truncated body": _truncated_body,
    "empty body": _sends(lambda: Response("", 200)),
    "no choices": _sends(lambda: JSONResponse({"choices": []})),
    "error with status 200": _sends(lambda: JSONResponse({"error": {"message": "upstream", "code": 502}})),
    "broken json": _sends(lambda: Response('{"choices": [{"message"', 200, media_type="application/json")),
    "no usage": _no_usage,
    "wrong permutation": _says(lambda ranking: answer([one + 1 for one in ranking])),
    "duplicate ids": _says(lambda ranking: answer([ranking[0]] * len(ranking))),
    "missing ids": _says(lambda ranking: answer(ranking[:-1])),
    "ids as strings": _says(lambda ranking: answer([str(one) for one in ranking])),
    "prose around": _says(lambda ranking: f"Here you are:\n```json\n{answer(ranking)}\n```\nAnything else?"),
    "prose": _says(lambda _: "The first response is the best one."),
    "null content": _says(lambda _: None),
    "odd characters": _says(lambda ranking: answer(ranking, "nul \x00 and half a pair \ud83d")),
    "refusal": _says(lambda _: None, refusal="I cannot help with that."),
    "length": _says(lambda ranking: answer(ranking)[:-12], finish_reason="length"),
    "filtered answer": _says(lambda _: "", finish_reason="content_filter"),
    "bad request": _sends(lambda: _error(400, "too long", "context_length_exceeded")),
    "filtered prompt": _sends(lambda: _error(400, "filtered", "content_filter")),
    "unsupported parameter": _sends(lambda: _error(400, "no temperature here", "unsupported_value")),
    "quota": _sends(lambda: _error(429, "You exceeded your current quota", "insufficient_quota")),
    "revoked key": _refuses_the_key,
    "echo": _echo,
    "forbidden": _sends(lambda: _error(403, "not in your country")),
    "model not found": _sends(lambda: _error(404, "no such model", "model_not_found")),
    "moved": _sends(lambda: Response("", 307, {"location": "http://127.0.0.1:9/elsewhere"})),
}


@dataclass
class FaultServer:
    """The application, what it has seen, and its address once it runs."""

    plan: Plan = lambda _number, _body: "good"
    requests: list[dict[str, Any]] = field(default_factory=list)
    behaviours: list[str] = field(default_factory=list)
    most_at_once: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    """Once it is set, requests that are held are answered."""
    url: str = ""
    _at_once: int = 0

    def app(self) -> "FaultServer":
        """Itself."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One chat completion, by the plan."""
        if scope["type"] != "http":
            return
        body = json.loads(await _read(receive))
        behaviour = self.plan(len(self.requests), body)
        self.requests.append(body)
        self.behaviours.append(behaviour)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await FAULTS[behaviour](Exchange(scope, receive, send, body, self.released))
        finally:
            self._at_once -= 1


async def _read(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body
