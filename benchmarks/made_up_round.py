"""A round of realistic size without a model: what the cycle would hand to the ledger after each of its phases.

Sizes are the paper's shape in small: three responses of 64 tokens (about 280 characters), a dialogue of about a
thousand characters, and a ranking prompt that shows six demonstrations of two or three responses.
"""

import json
from dataclasses import dataclass
from functools import cached_property

from cyclealign.method.demonstrations import STATIC_DEMONSTRATION, AdmittedDemonstration, Demonstration
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.records import Answer, ChatReply, ChatRequest, LogProbability, Message, Response
from storage.calls import CallDescription
from storage.rounds import RankedRound, SampledRound, TrainedRound

CANDIDATES = 3
TOKENS = 64
DYNAMIC_DEMONSTRATIONS = 5
"""The default capacity of the pool."""


def text(tokens: int, *place: int) -> str:
    """About as many characters as a response of so many tokens has; another text for every place."""
    return " ".join(f"word{(7 * index + sum(place)) % 100}" for index in range(tokens * 2 // 3))


@dataclass(frozen=True)
class MadeUpRound:
    """One round of one prompt."""

    run_name: str
    step: int

    def sampled(self) -> SampledRound:
        """What is known after sampling and scoring."""
        return SampledRound(
            step=self.step,
            round=1,
            wave=self.step,
            prompt_id=f"{self.step:016x}",
            responses=tuple(
                Response(words, tuple(range(slot, slot + TOKENS)), ended=True)
                for slot, words in enumerate(self._candidates)
            ),
            log_probabilities=tuple(LogProbability(-90.0 - slot, TOKENS) for slot in range(CANDIDATES)),
            white_box_ranking=(0, 1, 2),
            sampling_seconds=0.25,
            scoring_seconds=0.125,
        )

    @cached_property
    def call(self) -> CallDescription:
        """The question to the black box."""
        prompt = render_ranking_prompt(
            self._instruction, self._candidates, [STATIC_DEMONSTRATION] + [self._demonstration] * DYNAMIC_DEMONSTRATIONS
        )
        request = ChatRequest(
            purpose="ranking",
            model="a-model",
            messages=(Message("user", prompt),),
            parameters={"temperature": 1.0, "max_completion_tokens": 512},
            slot=("0123456789abcdef", self.step, 1, 0),
        )
        origin = "https://api.example.com"
        return CallDescription(request.key(origin), self.run_name, request, origin, self.step, 1, 0)

    def reply(self) -> ChatReply:
        """What came back: the body as received, and what it says."""
        content = json.dumps({"desired rank": [0, 2, 1], "response": self._rewrite})
        message = {"role": "assistant", "content": content}
        usage = {"prompt_tokens": 1200, "completion_tokens": 90}
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        raw = json.dumps({"id": "chatcmpl-0", "model": "a-model", "choices": choices, "usage": usage})
        return ChatReply(raw, content, None, "stop", "a-model", 1200, 90)

    def ranked(self) -> RankedRound:
        """What is known after the answer; the agreement is admitted as a demonstration."""
        return RankedRound(
            step=self.step,
            round=1,
            answer=Answer((0, 2, 1), self._rewrite),
            unranked=None,
            call_key=self.call.key,
            asks=1,
            permutation=(2, 0, 1),
            demonstrations_shown=tuple(range(DYNAMIC_DEMONSTRATIONS + 1)),
            agreement=(0, 2),
            stops_step=False,
            admitted=AdmittedDemonstration(self.step + 1, self.step, 1, self._demonstration),
            waiting_seconds=1.5,
        )

    def trained(self) -> TrainedRound:
        """What is known after the optimizer step."""
        return TrainedRound(
            step=self.step,
            round=1,
            optimizer_step=self.step,
            loss=3.5,
            rank_loss=1.1,
            sft_loss=0.6,
            gradient_norm=2.5,
            learning_rate=5e-5,
            seconds=0.5,
        )

    @cached_property
    def _candidates(self) -> tuple[str, ...]:
        return tuple(text(TOKENS, self.step, slot) for slot in range(CANDIDATES))

    @property
    def _rewrite(self) -> str:
        return text(TOKENS, self.step, CANDIDATES)

    @property
    def _instruction(self) -> str:
        return f"Human: {text(4 * TOKENS, self.step)}\n\nAssistant:"

    @property
    def _demonstration(self) -> Demonstration:
        return Demonstration(self._instruction, (self._candidates[2], self._candidates[0]), (1, 0))
