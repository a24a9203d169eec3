"""A server of the OpenAI protocol on loopback, for the evaluation: chat completions, files and batches.

What it says is a function of a request's body. Everything that arrives is noted; `tell` hears of every event when
its effect is there and its answer is not sent yet, which is the moment to kill whoever asks.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Say = Callable[[dict[str, Any]], "str | dict[str, Any]"]
"""From a request's body to the content of the answer, or to the fields of its only choice."""
USAGE = {"prompt_tokens": 100, "completion_tokens": 20}


def completion(said: "str | dict[str, Any]") -> dict[str, Any]:
    """A chat-completion object."""
    fields = {"content": said} if isinstance(said, str) else dict(said)
    message = {"role": "assistant", "content": fields.pop("content", None), "refusal": fields.pop("refusal", None)}
    choice = {"index": 0, "finish_reason": "stop", "message": message, **fields}
    return {"id": "1", "object": "chat.completion", "model": "served", "choices": [choice], "usage": USAGE}


@dataclass
class ModelServer:
    """The application, what it was asked, and its address once it runs."""

    say: Say
    tell: Callable[[str], None] = lambda _event: None
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of direct calls."""
    files: dict[str, str] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    polls_needed: int = 1
    """How often a batch is asked after before it is done."""
    unanswered: Callable[[dict[str, Any]], "dict[str, Any] | None"] = lambda _line: None
    """From a line of a batch to the fields of an error line in its place; None: it is answered."""
    refusal: str | None = None
    """The message with which every batch fails."""
    fingerprint: str | None = None
    """The `system_fingerprint` of direct answers."""
    url: str = ""

    def app(self) -> Starlette:
        """Its routes."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/v1/files", self._upload, methods=["POST"]),
                Route("/v1/files/{id}/content", self._content),
                Route("/v1/batches", self._create, methods=["POST"]),
                Route("/v1/batches", self._list),
                Route("/v1/batches/{id}", self._retrieve),
            ]
        )

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        named = {} if self.fingerprint is None else {"system_fingerprint": self.fingerprint}
        return JSONResponse({**completion(self.say(body)), **named})

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
