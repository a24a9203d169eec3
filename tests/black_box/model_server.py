"""A server of the OpenAI protocol on loopback: chat completions that may fail, files and batches.

What it says is a function of a request's body; by default it ranks alphabetically. `plan` names the behaviour of each
chat completion, a key of `FAULTS`. The server notes everything that arrives; `tell` hears of every event of a batch
when its effect is there and its answer is not sent yet, which is the moment to kill the asker.
"""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from cyclealign.method.ranking_prompt import parse_ranking_prompt

USAGE = {"prompt_tokens": 100, "completion_tokens": 20}
SLOW_S = 0.3
HANG_S = 30.0
Say = Callable[[dict[str, Any]], "str | dict[str, Any]"]
"""From a request's body to the content of the answer, or to the fields of its only choice."""


def completion(said: "str | dict[str, Any] | None") -> dict[str, Any]:
    """A chat-completion object with this content, or with these fields of message and choice."""
    fields = dict(said) if isinstance(said, dict) else {"content": said}
    message = {"role": "assistant", "content": fields.pop("content", None), "refusal": fields.pop("refusal", None)}
    choice = {"index": 0, "finish_reason": "stop", "message": message, **fields}
    return {"id": "1", "object": "chat.completion", "model": "served-model", "choices": [choice], "usage": USAGE}


def answer(ranking: Any, rewrite: str = "A better response.") -> str:
    """The content that a ranking prompt asks for."""
    return json.dumps({"desired rank": ranking, "response": rewrite})


def ranking_of(body: dict[str, Any]) -> list[int]:
    """Positions by the alphabetical order of the responses."""
    responses = parse_ranking_prompt(body["messages"][-1]["content"]).responses
    return sorted(range(len(responses)), key=lambda position: responses[position])


@dataclass
class Exchange:
    """One chat completion as it arrives, and the means to answer it."""

    server: "ModelServer"
    scope: Scope
    receive: Receive
    send: Send
    body: dict[str, Any]

    async def reply(self, response: Response) -> None:
        """Answer in full."""
        await response(self.scope, self.receive, self.send)

    def abort(self) -> None:
        """Cut the connection; `receive` is a method of uvicorn's request cycle, which holds the transport."""
        self.receive.__self__.transport.abort()  # type: ignore[attr-defined]

    @property
    def authorization(self) -> str:
        """The header, with the key."""
        return dict(self.scope["headers"])[b"authorization"].decode()


Behave = Callable[[Exchange], Awaitable[None]]


def _sends(response: Callable[[Exchange], Response]) -> Behave:
    async def behave(exchange: Exchange) -> None:
        await exchange.reply(response(exchange))

    return behave


def _says(content: Callable[[list[int]], Any], **choice: Any) -> Behave:
    """Answers a ranking prompt."""
    return _sends(lambda e: JSONResponse(completion({"content": content(ranking_of(e.body)), **choice})))


def _fails(status: int, message: str, code: str | None = None, **headers: str) -> Behave:
    body = {"error": {"message": message, "type": code, "code": code, "param": None}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return _sends(lambda _: JSONResponse(body, status, named))


async def _truncated_body(exchange: Exchange) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
    await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": b'{"choices": [', "more_body": True})
    await asyncio.sleep(0.02)
    exchange.abort()


async def _reset(exchange: Exchange) -> None:
    exchange.abort()


async def _slow_first_byte(exchange: Exchange) -> None:
    await asyncio.sleep(SLOW_S)
    await FAULTS["good"](exchange)


async def _held(exchange: Exchange) -> None:
    await asyncio.to_thread(exchange.server.released.wait, HANG_S)
    await FAULTS["good"](exchange)


async def _hang(exchange: Exchange) -> None:
    async def gone() -> None:
        while (await exchange.receive())["type"] != "http.disconnect":
            pass

    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(gone(), HANG_S)


FAULTS: dict[str, Behave] = {
    "good": _sends(lambda e: JSONResponse({**completion(e.server.say(e.body)), **e.server.named})),
    "other model": _sends(lambda e: JSONResponse({**completion(e.server.say(e.body)), "model": "smaller-model"})),
    "rate limit": _fails(429, "slow down", "rate_limit_exceeded"),
    "rate limit, retry-after": _fails(429, "slow down", retry_after="0.1"),
    "rate limit, retry-after-ms": _fails(429, "slow down", retry_after_ms="50"),
    "rate limit, a day": _fails(429, "come back tomorrow", retry_after="86400"),
    "500": _fails(500, "internal"),
    "502": _sends(lambda _: Response("<html>bad gateway</html>", 502)),
    "503": _fails(503, "overloaded", retry_after="0.05"),
    "reset": _reset,
    "slow first byte": _slow_first_byte,
    "held": _held,
    "hang": _hang,
    "truncated body": _truncated_body,
    "empty body": _sends(lambda _: Response("", 200)),
    "no choices": _sends(lambda _: JSONResponse({"choices": []})),
    "error with status 200": _sends(lambda _: JSONResponse({"error": {"message": "upstream", "code": 502}})),
    "rate limit with status 200": _sends(lambda _: JSONResponse({"error": {"message": "slow down", "code": 429}})),
    "no credit with status 200": _sends(lambda _: JSONResponse({"error": {"code": "insufficient_quota"}})),
    "counted error with status 200": _sends(lambda _: JSONResponse({"error": "upstream", "usage": USAGE})),
    "broken json": _sends(lambda _: Response('{"choices": [{"message"', 200, media_type="application/json")),
    "no usage": _sends(lambda e: JSONResponse({**completion(answer(ranking_of(e.body))), "usage": None})),
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
    "bad request": _fails(400, "no"),
    "too long": _fails(400, "This model's maximum context length is 8192 tokens."),
    "no json mode": _sends(lambda _: JSONResponse({"error": "'response_format' is not supported here"}, 400)),
    "wants max_completion_tokens": _fails(400, "Use 'max_completion_tokens' instead of 'max_tokens'."),
    "422": _fails(422, "no"),
    "nothing but thoughts": _says(lambda _: "", finish_reason="length"),
    "filtered prompt": _fails(400, "filtered", "content_filter"),
    "unsupported parameter": _fails(400, "no temperature here", "unsupported_value"),
    "quota": _fails(429, "You exceeded your current quota", "insufficient_quota"),
    "revoked key": _sends(lambda e: JSONResponse({"error": {"message": f"bad key {e.authorization}"}}, 401)),
    "echo": _sends(lambda e: JSONResponse(completion(e.authorization))),
    "forbidden": _fails(403, "not in your country"),
    "model not found": _fails(404, "no such model", "model_not_found"),
    "moved": _sends(lambda _: Response("", 307, {"location": "http://127.0.0.1:9/elsewhere"})),
}


@dataclass
class ModelServer:
    """The application, what it was asked, and its address once it runs."""

    say: Say = lambda body: answer(ranking_of(body))
    plan: Callable[[int, dict[str, Any]], str] = lambda _number, _body: "good"
    """From the number of the chat completion, counted from 0, and its body to the name of a behaviour."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of chat completions."""
    behaviours: list[str] = field(default_factory=list)
    most_at_once: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    """Once it is set, the server answers the requests that it holds."""
    named: dict[str, Any] = field(default_factory=dict)
    """Further fields of good answers, such as `system_fingerprint`."""
    tell: Callable[[str], None] = lambda _event: None
    files: dict[str, str] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    polls_needed: int = 1
    """How often a batch is asked after before it is done."""
    unanswered: Callable[[dict[str, Any]], "dict[str, Any] | None"] = lambda _line: None
    """From a line of a batch to the fields of an error line in its place; None: it is answered."""
    refusal: str | None = None
    """The message with which every batch fails."""
    url: str = ""
    _at_once: int = 0

    def __post_init__(self) -> None:
        self._others = Starlette(
            routes=[
                Route("/v1/files", self._upload, methods=["POST"]),
                Route("/v1/files/{id}/content", self._content),
                Route("/v1/batches", self._create, methods=["POST"]),
                Route("/v1/batches", self._list),
                Route("/v1/batches/{id}", self._retrieve),
            ]
        )

    def app(self) -> "ModelServer":
        """Itself."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A chat completion, by the plan, or a request of the Batch API."""
        if scope["type"] != "http":
            return
        if not scope["path"].endswith("/chat/completions"):
            await self._others(scope, receive, send)
            return
        body = await Request(scope, receive).json()
        behaviour = self.plan(len(self.requests), body)
        self.requests.append(body)
        self.behaviours.append(behaviour)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await FAULTS[behaviour](Exchange(self, scope, receive, send, body))
        finally:
            self._at_once -= 1

    async def _upload(self, request: Request) -> Response:
        parts = _form(request.headers["content-type"], await request.body())
        assert parts["purpose"] == "batch"
        name = f"file-{len(self.files)}"
        self.files[name] = parts["file"]
        self.tell("uploaded")
        return JSONResponse({"id": name, "object": "file", "purpose": "batch"})

    async def _content(self, request: Request) -> Response:
        return Response(self.files[request.path_params["id"]])

    async def _create(self, request: Request) -> Response:
        body = await request.json()
        name = f"batch-{len(self.batches)}"
        made = {"id": name, "object": "batch", "created_at": int(time.time()), "status": "in_progress", "polls": 0}
        self.batches[name] = {**made, **body}
        self.tell("created")
        return JSONResponse(self.batches[name])

    async def _list(self, _request: Request) -> Response:
        newest_first = list(reversed(self.batches.values()))
        return JSONResponse({"object": "list", "data": newest_first, "has_more": False})

    async def _retrieve(self, request: Request) -> Response:
        batch = self.batches[request.path_params["id"]]
        batch["polls"] += 1
        if self.refusal is not None:
            batch.update(status="failed", errors={"object": "list", "data": [{"message": self.refusal}]})
        elif batch["polls"] >= self.polls_needed and batch["status"] == "in_progress":
            self._finish(batch)
        self.tell("polled")
        return JSONResponse(batch)

    def _finish(self, batch: dict[str, Any]) -> None:
        answers, errors = [], []
        for line in map(json.loads, self.files[batch["input_file_id"]].splitlines()):
            error = self.unanswered(line)
            if error is None:
                response = {"status_code": 200, "request_id": "r", "body": completion(self.say(line["body"]))}
                answers.append({"id": "l", "custom_id": line["custom_id"], "response": response, "error": None})
            elif error:
                errors.append({"id": "l", "custom_id": line["custom_id"], **error})
        for key, lines in (("output_file_id", answers), ("error_file_id", errors)):
            if lines:
                batch[key] = f"file-{len(self.files)}"
                self.files[batch[key]] = "\n".join(json.dumps(line) for line in lines) + "\n"
        batch["status"] = "completed"


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a multipart form by their names."""
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    parts = [part for part in message.walk() if not part.is_multipart()]
    return {
        str(part.get_param("name", header="content-disposition")): bytes(part.get_payload(decode=True) or b"").decode()
        for part in parts
    }
