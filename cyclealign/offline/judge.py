"""The offline judge: answers a ranking prompt like a stranger and learns from the demonstrations in it.

Everything it knows about a question stands in the request: it reads the prompt's text back, updates its prior
by the demonstrations there, draws one opinion, ranks the candidates by it and picks the best of its writer's
drafts by the same opinion. It never sees a ground truth or the evaluation's reward model. Which features it
looks at and who writes its drafts is plugged in (`world_judge`, `preference`); `chat_server` puts it behind
HTTP.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from cyclealign.method.ranking_prompt import ParsedPrompt, parse_ranking_prompt
from cyclealign.offline.chat_messages import RequestUnreadable, chat_completion, digest_of, last_user_message
from cyclealign.offline.ranker import Array, Gaussian, order, posterior, worths
from cyclealign.offline.settings import JudgeSettings
from cyclealign.seeds import derive_seed

VERSION = 3
"""Raised whenever equal requests would be answered otherwise than before."""
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


class Judge:
    """A black box that runs locally.

    Args:
        features: What it looks at.
        writer: Who proposes the rewrites.
        prior: Its belief about the features' weights before it reads any demonstration, D as in `features`.
        settings: How much its opinions scatter (`noise`).
        fitted: Identity of what features and writer were fitted to.
    """

    def __init__(
        self, features: Features, writer: Writer, prior: Gaussian, settings: JudgeSettings, fitted: str = ""
    ) -> None:
        if prior.mean.shape != (features.size,):
            raise ValueError(f"The prior has {prior.mean.size} weights, expected one per feature: {features.size}.")
        self._features = features
        self._writer = writer
        self._prior = prior
        self._noise = settings.noise
        self.identity = digest_of({"version": VERSION, "settings": settings.model_dump(), "fitted": fitted})[:16]
        """Changes whenever equal requests would be answered otherwise."""
        self._rows: dict[tuple[str, str], Array] = {}
        self._drafts: dict[str, list[str]] = {}

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The chat-completion object that answers this request; identical requests get identical answers.

        Not safe to call from two threads at once.

        Raises:
            RequestUnreadable: the body asks for something else than one answer to a ranking prompt.
        """
        prompt = _parsed(last_user_message(body))
        digest = digest_of(body)
        opinion = self.opinion(prompt, derive_seed("offline judge", digest))
        content = json.dumps(opinion, ensure_ascii=False)
        return chat_completion(body, digest, content)

    def opinion(self, prompt: ParsedPrompt, seed: int) -> dict[str, Any]:
        """The fields that the prompt asks for (ranking, rewrite) under one draw of the weights."""
        shown = [
            self._look(demonstration.instruction, [demonstration.responses[i] for i in demonstration.ranking])
            for demonstration in prompt.demonstrations
        ]
        weights = posterior(self._prior, shown).draw(seed, self._noise)
        ranking = order(worths(self._look(prompt.instruction, prompt.responses), weights))
        if not prompt.rewrite:
            return {"desired rank": list(ranking)}
        drafts = self._drafts_for(prompt.instruction)
        best = order(worths(self._look(prompt.instruction, drafts), weights))[0]
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


def _parsed(text: str) -> ParsedPrompt:
    try:
        text.encode()  # JSON may hold halves of surrogate pairs, which no tokenizer reads
        return parse_ranking_prompt(text)
    except ValueError as error:
        raise RequestUnreadable(f"This judge answers ranking prompts only, and cannot read this one: {error}") from None
