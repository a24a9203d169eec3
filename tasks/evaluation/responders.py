"""The writers of the responses that an evaluation scores: a local model, or a model behind an endpoint.

A responder says what decides its responses and writes them batch by batch, so that each batch can be kept
before the next one is begun. Leaves out what is missing and where it is kept (`tasks.evaluation.generation`).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cyclealign.black_box.capabilities import parameters_for, takes_temperature
from cyclealign.method.answers import AnswerRejected, without_thoughts
from cyclealign.records import ChatReply, Prompt, Speaker
from cyclealign.seeds import derive_seed
from cyclealign.settings import BlackBoxSettings, EvaluationSettings, SamplingSettings
from cyclealign.statistics import repeated_ngram_share
from cyclealign.white_box.device_memory import HELD_OUT, fitting
from cyclealign.white_box.white_box import WhiteBox
from storage.evaluations import Generation
from tasks.asking.questions import Asker, Question

EVALUATION_SEED = 0
"""The draws do not depend on a run's seed: systems are compared on the same prompts with the same luck."""
Settings = Mapping[str, Any]
ROLES: Mapping[Speaker, str] = {"human": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class WhiteBoxResponder:
    """A local model, with its adapter where it was trained."""

    white_box: WhiteBox
    trained: bool
    evaluation: EvaluationSettings

    @property
    def identity(self) -> dict[str, Any]:
        """The model, and its adapter once it is trained (a new one changes no output)."""
        description = self.white_box.description
        if not self.trained:
            return {key: value for key, value in description.items() if key != "lora"}
        return {**description, "adapter": self.white_box.weights_sha256()}

    def ask_ahead(self, prompts: Sequence[Prompt]) -> None:
        """Nothing: a batch of a local model is as large as the device's memory allows."""

    def batches(self, prompts: Sequence[Prompt], system_id: str, settings: Settings) -> Iterator[list[Generation]]:
        """Sampled with a seed of each prompt's own, in length-sorted batches."""
        ordered, size = sorted(prompts, key=lambda prompt: len(prompt.instruction)), self.evaluation.batch
        for start in range(0, len(ordered), size):
            yield self._batch(ordered[start : start + size], system_id, settings)

    def _batch(self, prompts: Sequence[Prompt], system_id: str, settings: Settings) -> list[Generation]:
        clock = time.monotonic()
        seeds = [derive_seed(EVALUATION_SEED, "evaluate", prompt.prompt_id) for prompt in prompts]
        with fitting(f"Responding to {len(prompts)} held-out prompts at once", HELD_OUT):
            drawn = self.white_box.sample(prompts, seeds, 1, self.evaluation.sampling)
        seconds = (time.monotonic() - clock) / len(prompts)
        return [
            Generation(
                system_id=system_id,
                prompt_id=prompt.prompt_id,
                settings=settings,
                text=response.text,
                tokens=len(response.tokens),
                ended=response.ended,
                repeated_4grams=repeated_ngram_share(response.tokens, 4),
                seconds=seconds,
            )
            for prompt, (response,) in zip(prompts, drawn, strict=True)
        ]


@dataclass(frozen=True)
class ApiResponder:
    """A model behind a chat-completions endpoint, asked through the ledger and under the run's cap."""

    asker: Asker
    parameters: Mapping[str, Any]
    """As `generation_parameters` gives them, without a seed."""
    system_prompt: str | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """Model, endpoint, parameters and system prompt; what the endpoint serves under a name is not in our hands."""
        account = self.asker.account
        return {
            "api": account.settings.model,
            "origin": account.origin,
            "parameters": dict(self.parameters),
            "seeded": account.settings.seed,
            "system_prompt": self.system_prompt,
        }

    def ask_ahead(self, prompts: Sequence[Prompt]) -> None:
        """See `Asker.ask_ahead`.

        Raises:
            RunPaused: no call gets through, or the cap is reached.
        """
        self.asker.ask_ahead([self._question(prompt) for prompt in prompts])

    def batches(self, prompts: Sequence[Prompt], system_id: str, settings: Settings) -> Iterator[list[Generation]]:
        """Asked together in portions; an answer that was filtered, empty or never came leaves its prompt out."""
        for some, _ in self.asker.portions(prompts):
            results = self.asker.ask([self._question(prompt) for prompt in some])
            yield [
                Generation(system_id, prompt.prompt_id, settings, *result.answer, None, None)
                for prompt, result in zip(some, results, strict=True)
                if result.answer
            ]

    def _question(self, prompt: Prompt) -> Question[tuple[str, int | None, bool]]:
        settings = self.asker.account.settings
        said = [("system", self.system_prompt)] if self.system_prompt is not None else []
        said += [(ROLES[turn.speaker], turn.text) for turn in prompt.turns]
        messages = [{"role": role, "content": text} for role, text in said]
        body = {"model": settings.model, "messages": messages, **self.parameters}
        if settings.seed:
            body["seed"] = derive_seed(EVALUATION_SEED, "evaluate", prompt.prompt_id) % 2**31
        slot = ("generation", EVALUATION_SEED)
        return Question("generation", lambda _ask: (body, slot), lambda reply, _ask: _said(reply))


Responder = WhiteBoxResponder | ApiResponder
"""Writes responses, and says by its `identity` what decides them besides the generation settings."""


def _said(reply: ChatReply) -> tuple[str, int | None, bool]:
    """The text for the user, its tokens, and whether it is whole: a refusal is a response, a cut text counts as it is.

    Raises:
        AnswerRejected: there is none.
    """
    text = (without_thoughts(reply.content or "") or reply.refusal or "").strip()
    if reply.finish_reason == "content_filter":
        raise AnswerRejected("content_filter", "The endpoint's content filter cut the answer.")
    if not text:
        raise AnswerRejected("malformed", "Found no text, expected a response.")
    return text, reply.completion_tokens or None, reply.finish_reason == "stop"


def generation_parameters(
    settings: BlackBoxSettings, sampling: SamplingSettings, max_tokens: int | None = None
) -> dict[str, Any]:
    """The parameters of a generation call: those of `evaluation.sampling` unless the system sets its own.

    Reasoning models take no temperature, which the identity then shows, and need a larger limit of their own:
    what they think counts too.

    Raises:
        UsageError: the system sets a parameter that its model does not take.
    """
    chosen: dict[str, Any] = {"json_mode": False, "max_tokens": max_tokens or sampling.max_new_tokens}
    if settings.temperature is None and takes_temperature(settings):
        chosen["temperature"] = sampling.temperature
    parameters = parameters_for(settings.model_copy(update=chosen), None)
    if "temperature" in parameters and sampling.top_p != 1:
        parameters["top_p"] = sampling.top_p
    return parameters
