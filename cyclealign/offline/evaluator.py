"""The offline evaluator: answers comparison prompts by the opinion of the evaluation's reward model, with an
annotator's luck.

It is not the judge that ranks in training (`judge`): other weights, fitted on other pairs, and no
demonstrations. It is no witness of its own beside that reward model either: what it adds to Table 1 is the
road from a prompt to a verdict, with the errors and the inconsistency that a judge has on it.
"""

import json
import math
import random
from collections.abc import Iterable, Mapping
from typing import Any

from cyclealign.method.comparison_prompt import ParsedComparison, Verdict, parse_comparison_prompt
from cyclealign.offline.chat_messages import RequestUnreadable, chat_completion, digest_of, last_user_message
from cyclealign.offline.preference_judge import turns_of
from cyclealign.records import Prompt
from cyclealign.reward_models.reward_model import RewardModel
from cyclealign.seeds import derive_seed

NOISE = 0.25
"""Scale of the logistic noise on the difference of two rewards, drawn anew for each request."""
TIE_MARGIN = 0.1
"""Differences up to this are a tie."""
UNKNOWN_SUBSET = "helpful-base"


class Evaluator:
    """A comparing judge that runs locally.

    Args:
        reward_model: Whose opinion it is.
        prompts: Those that will be asked about: some reward models are told a prompt's subset, which its text
            does not show.
    """

    def __init__(self, reward_model: RewardModel, prompts: Iterable[Prompt] = ()) -> None:
        self._reward_model = reward_model
        self.identity = reward_model.identity
        self._prompts = {prompt.instruction: prompt for prompt in prompts}
        self._rewards: dict[tuple[str, str], float] = {}

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The chat-completion object that answers this request; identical requests get identical answers.

        Not safe to call from two threads at once.

        Raises:
            RequestUnreadable: the body asks for something else than one answer to a comparison prompt.
        """
        shown, digest = _parsed(last_user_message(body)), digest_of(body)
        gap = self.gap(shown) + _logistic(derive_seed("offline evaluator", digest)) * NOISE
        said = {"reasoning": f"The first response seems better than the second by {gap:.2f}.", "verdict": verdict(gap)}
        return chat_completion(body, digest, json.dumps(said))

    def gap(self, shown: ParsedComparison) -> float:
        """How much better the first response is than the second, in the reward model's unit."""
        prompt = self._prompts.get(shown.instruction)
        if prompt is None:
            prompt = Prompt.from_turns(UNKNOWN_SUBSET, "test", turns_of(shown.instruction))
        return self._reward(prompt, shown.first) - self._reward(prompt, shown.second)

    def _reward(self, prompt: Prompt, text: str) -> float:
        key = (prompt.prompt_id, text)
        if key not in self._rewards:  # every pair comes twice, and one system meets several others
            self._rewards[key] = self._reward_model.score([(prompt, text)])[0]
        return self._rewards[key]


def verdict(gap: float) -> Verdict:
    """What a difference in the first response's favour comes to."""
    if abs(gap) <= TIE_MARGIN:
        return "tie"
    return "first" if gap > 0 else "second"


def _logistic(seed: int) -> float:
    """One draw: an annotator who prefers with probability sigmoid(d) is d + this above 0."""
    chance = random.Random(seed).uniform(1e-9, 1 - 1e-9)
    return math.log(chance / (1 - chance))


def _parsed(text: str) -> ParsedComparison:
    try:
        text.encode()  # JSON may hold halves of surrogate pairs, which no tokenizer reads
        return parse_comparison_prompt(text)
    except ValueError as error:
        raise RequestUnreadable(
            f"This evaluator answers comparison prompts only, and cannot read this one: {error}"
        ) from None
