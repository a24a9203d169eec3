"""The chat-completions protocol of the offline judges: requests read, answers written, an ASGI application around it.

The black box calls the application in-process; `cyclealign judge` offers the same to any client over HTTP. Errors
have OpenAI's format. Leaves out the answers themselves (`judge`), and who may come in (`cyclealign.loopback`).
"""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cyclealign.loopback import error_response
from cyclealign.seeds import derive_seed

Question = TypeVar("Question")


class RequestUnreadable(ValueError):
    """A request that the model cannot answer; the server reports it with HTTP status 400."""


class ChatModel(ABC, Generic[Question]):
    """A local model that answers chat-completions requests, and knows of a question only the request's text."""

    identity: str
    """Changes whenever equal requests would be answered otherwise."""
    kind: str
    """In one word; part of the seed of each answer."""
    questions: str
    """The prompts that it answers, for messages."""
    parse: Callable[[str], Question]
    """Reads the question out of a request's last message; a ValueError says that it is no prompt of this kind."""

    @abstractmethod
    def opinion(self, question: Question, seed: int) -> dict[str, Any]:
        """The fields of the answer's JSON."""

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The chat-completion object that answers this request; identical requests get identical answers.

        Raises:
            RequestUnreadable: the body asks for something else than one answer to a prompt of this kind.
        """
        text, digest = _last_user_message(body), digest_of(body)
        try:
            text.encode()  # JSON may hold halves of surrogate pairs, which no tokenizer reads
            question = self.parse(text)
        except ValueError as error:
            raise RequestUnreadable(
                f"This {self.kind} answers {self.questions} only, and cannot read this one: {error}"
            ) from None
        opinion = self.opinion(question, derive_seed(f"offline {self.kind}", digest))
        return _completion(body, digest, json.dumps(opinion, ensure_ascii=False))


def digest_of(body: Mapping[str, Any]) -> str:
    """Tells bodies apart, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _last_user_message(body: Mapping[str, Any]) -> str:
    """The text of the last user message of a request for one plain answer."""
    for key, plain in (("stream", False), ("n", 1)):
        if body.get(key) not in (None, plain):
            raise RequestUnreadable(f"{key} = {body[key]!r} is not supported, expected {plain!r} or nothing.")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestUnreadable("messages: expected a list of at least one message.")
    last = messages[-1]
    if not isinstance(last, Mapping) or last.get("role") != "user" or not isinstance(last.get("content"), str):
        raise RequestUnreadable("messages: expected the last one to have role user and a text as content.")
    return str(last["content"])


def _completion(body: Mapping[str, Any], digest: str, content: str) -> dict[str, Any]:
    """The object that answers `body` with this content, cut where its token limit is reached like any model's."""
    tokens = _tokens(content)
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or len(tokens)
    if not isinstance(limit, int) or limit < 1:
        raise RequestUnreadable(f"The token limit is {limit!r}, expected a whole number above 0.")
    said = tokens[:limit]
    asked = sum(len(_tokens(str(message.get("content", "")))) for message in body["messages"])
    return {
        "id": f"chatcmpl-{digest[:24]}",
        "object": "chat.completion",
        "created": 0,  # no clock: identical requests get identical answers
        "model": body.get("model"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "".join(said), "refusal": None},
                "finish_reason": "stop" if len(tokens) <= limit else "length",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": asked, "completion_tokens": len(said), "total_tokens": asked + len(said)},
    }


def _tokens(text: str) -> list[str]:
    """The text in pieces that count as tokens: words and marks, each with the space before it."""
    return re.findall(r"\s*(?:\w+|[^\w\s])|\s+$", text)


def create_app(model: ChatModel[Any], name: str) -> Starlette:
    """An application that answers `POST /v1/chat/completions` and `GET /v1/models`.

    Answering is computation, so it happens one request at a time in a worker thread while the event loop stays free.
    `app.state.model` is the model name that it answers to, `app.state.identity` the model's identity.
    """
    one_at_a_time = CapacityLimiter(1)

    async def complete(request: Request) -> JSONResponse:
        try:
            body = json.loads(await request.body())
        except ValueError:
            return error_response(400, "The body is not JSON, expected a chat-completions request.", "invalid_json")
        if not isinstance(body, dict):
            return error_response(400, f"The body is {type(body).__name__}, expected an object.", "invalid_json")
        if body.get("model") != name:
            message = f"The model {body.get('model')!r} does not exist here, expected {name!r}."
            return error_response(404, message, "model_not_found")
        try:
            answer = await anyio.to_thread.run_sync(model.answer, body, limiter=one_at_a_time)
        except RequestUnreadable as error:
            return error_response(400, str(error), "unreadable_request")
        return JSONResponse(answer)

    async def models(_: Request) -> JSONResponse:
        entry = {"id": name, "object": "model", "created": 0, "owned_by": "cyclealign"}
        return JSONResponse({"object": "list", "data": [entry]})

    app = Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"]), Route("/v1/models", models)])
    app.state.model = name
    app.state.identity = model.identity
    return app
