"""What an offline chat model reads from a request and how it answers: chat-completions objects, as any server's.

Shared by the judge that ranks (`judge`) and the evaluator that compares (`evaluator`). Leaves out HTTP
(`chat_server`) and what is said.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class ChatAnswers(Protocol):
    """Whoever answers chat-completions requests."""

    identity: str
    """Changes whenever equal requests would be answered otherwise."""

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The chat-completion object that answers this request.

        Raises:
            RequestUnreadable: it asks for something that cannot be answered here.
        """
        ...


class RequestUnreadable(ValueError):
    """A request that the judge cannot answer; the server reports it with HTTP status 400."""


@dataclass(frozen=True, slots=True)
class _Completion:
    """What the judge says, before it becomes a chat-completion object."""

    content: str
    finish_reason: str
    tokens: int


def digest_of(body: Mapping[str, Any]) -> str:
    """What tells requests apart: identical ones get identical answers."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def last_user_message(body: Mapping[str, Any]) -> str:
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


def _limited(content: str, body: Mapping[str, Any]) -> _Completion:
    """The content, cut where the request's token limit is reached as any chat model would be."""
    pieces = _pieces(content)
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or len(pieces)
    if not isinstance(limit, int) or limit < 1:
        raise RequestUnreadable(f"The token limit is {limit!r}, expected a whole number above 0.")
    reason = "stop" if len(pieces) <= limit else "length"
    return _Completion("".join(pieces[:limit]), reason, min(len(pieces), limit))


def _pieces(text: str) -> list[str]:
    """The text in pieces that are counted as tokens: words and marks, each with the space before it."""
    return re.findall(r"\s*(?:\w+|[^\w\s])|\s+$", text)


def chat_completion(body: Mapping[str, Any], digest: str, content: str) -> dict[str, Any]:
    """The object that answers `body` with this content, cut where its token limit is reached."""
    said = _limited(content, body)
    asked = sum(len(_pieces(str(message.get("content", "")))) for message in body["messages"])
    return {
        "id": f"chatcmpl-{digest[:24]}",
        "object": "chat.completion",
        "created": 0,  # no clock: identical requests get identical answers
        "model": body.get("model"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": said.content, "refusal": None},
                "finish_reason": said.finish_reason,
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": asked, "completion_tokens": said.tokens, "total_tokens": asked + said.tokens},
    }
