"""The offline judge: answers a ranking prompt like a stranger and learns from the demonstrations in it.

Everything it knows about a question stands in the request: it reads the prompt's text back, updates its prior
by the demonstrations there, draws one opinion, ranks the candidates by it and picks the best of its writer's
drafts by the same opinion. It never sees a ground truth or the evaluation's reward model. Which features it
looks at and who writes its drafts is plugged in (`world_judge`, `preference`); `chat_server` puts it behind
HTTP.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cyclealign.method.ranking_prompt import ParsedPrompt, parse_ranking_prompt
from cyclealign.models.offline.ranker import Array, Gaussian, order, posterior
from cyclealign.seeds import derive_seed
from cyclealign.settings import JudgeSettings

MEMORY = 100_000
"""Rows of features kept; the oldest are forgotten beyond that."""


class Features(Protocol):
    """What the judge looks at in a response."""

    @property
    def size(self) -> int:
        """D, the number of features."""
        ...

    def __call__(self, instruction: str, responses: Sequence[str]) -> Array:
        """Features of each response to this instruction, shape [R, D].

        A row depends on the instruction and its own response only, never on the other rows.
        """
        ...


class Writer(Protocol):
    """Who proposes the rewrites."""

    def drafts(self, instruction: str) -> list[str]:
        """Candidate rewrites, at least one, none empty; the same for the same instruction."""
        ...


class RequestUnreadable(ValueError):
    """A request that the judge cannot answer; the server reports it with HTTP status 400."""


@dataclass(frozen=True, slots=True)
class _Completion:
    """What the judge says, before it becomes a chat-completion object."""

    content: str
    finish_reason: str
    tokens: int


class Judge:
    """A black box that runs locally.

    Args:
        features: What it looks at.
        writer: Who proposes the rewrites.
        prior: Its belief about the features' weights before it reads any demonstration, D as in `features`.
        settings: How much its opinions scatter (`noise`).
    """

    def __init__(self, features: Features, writer: Writer, prior: Gaussian, settings: JudgeSettings) -> None:
        if prior.mean.shape != (features.size,):
            raise ValueError(
                f"The prior has {prior.mean.size} weights, expected one per feature: {features.size}."
            )
        self._features = features
        self._writer = writer
        self._prior = prior
        self._noise = settings.noise
        self._rows: dict[tuple[str, str], Array] = {}
        self._drafts: dict[str, list[str]] = {}

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The chat-completion object that answers this request; identical requests get identical answers.

        Not safe to call from two threads at once.

        Raises:
            RequestUnreadable: the body asks for something else than one answer to a ranking prompt.
        """
        prompt = _parsed(_last_user_message(body))
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        opinion = self.opinion(prompt, derive_seed("offline judge", digest))
        content = json.dumps(opinion, ensure_ascii=False)
        return _chat_completion(body, digest, _limited(content, body))

    def opinion(self, prompt: ParsedPrompt, seed: int) -> dict[str, Any]:
        """The fields that the prompt asks for (ranking, rewrite) under one draw of the weights."""
        shown = [
            self._look(demonstration.instruction, [demonstration.responses[i] for i in demonstration.ranking])
            for demonstration in prompt.demonstrations
        ]
        weights = posterior(self._prior, shown).draw(seed, self._noise)
        ranking = order(self._look(prompt.instruction, prompt.responses) @ weights)
        if not prompt.rewrite:
            return {"desired rank": list(ranking)}
        drafts = self._drafts_for(prompt.instruction)
        best = order(self._look(prompt.instruction, drafts) @ weights)[0]
        return {"desired rank": list(ranking), "response": drafts[best]}

    def _look(self, instruction: str, responses: Sequence[str]) -> Array:
        """Features of these responses, shape [R, D]; what was seen before is remembered."""
        unseen = [text for text in dict.fromkeys(responses) if (instruction, text) not in self._rows]
        if unseen:
            rows = self._features(instruction, unseen)
            self._rows.update({(instruction, text): row for text, row in zip(unseen, rows, strict=True)})
        looked = np.stack([self._rows[instruction, text] for text in responses])
        _forget(self._rows)
        return looked

    def _drafts_for(self, instruction: str) -> list[str]:
        if instruction not in self._drafts:
            self._drafts[instruction] = self._writer.drafts(instruction)
            _forget(self._drafts)
        return self._drafts[instruction]


def _forget(memory: dict[Any, Any]) -> None:
    """Drops the oldest entries beyond `MEMORY`."""
    while len(memory) > MEMORY:
        del memory[next(iter(memory))]


def _last_user_message(body: Mapping[str, Any]) -> str:
    """The text of the last user message of a request for one plain answer."""
    for key, plain in (("stream", False), ("n", 1)):
        if body.get(key) not in (None, plain):
            raise RequestUnreadable(f"{key} = {body[key]!r} is not supported, expected {plain!r} or nothing.")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestUnreadable("messages: expected a list of at least one message.")
    last = messages[-1]
    if (
        not isinstance(last, Mapping)
        or last.get("role") != "user"
        or not isinstance(last.get("content"), str)
    ):
        raise RequestUnreadable("messages: expected the last one to have role user and a text as content.")
    return str(last["content"])


def _parsed(text: str) -> ParsedPrompt:
    try:
        text.encode()  # JSON may hold halves of surrogate pairs, which no tokenizer reads
        return parse_ranking_prompt(text)
    except ValueError as error:
        raise RequestUnreadable(
            f"This judge answers ranking prompts only, and cannot read this one: {error}"
        ) from None


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


def _chat_completion(body: Mapping[str, Any], digest: str, said: _Completion) -> dict[str, Any]:
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
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": said.tokens,
            "total_tokens": asked + said.tokens,
        },
    }
