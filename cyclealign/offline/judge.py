"""The offline judges: one ranks and rewrites in training, one compares in the evaluation.

Both answer like strangers: everything they know about a question stands in the request. The judge learns from the
demonstrations there; `world_judge` and `preference` give it features to look at and a writer. The evaluator is
another opinion, that of the evaluation's reward model. `chat_server` puts both behind HTTP.
"""

import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from cyclealign.method.comparison_prompt import ParsedComparison, Verdict, parse_comparison_prompt
from cyclealign.method.ranking_prompt import ParsedPrompt, parse_ranking_prompt
from cyclealign.offline.chat_server import ChatModel, digest_of
from cyclealign.offline.regression import Array, Gaussian, order, posterior, worths
from cyclealign.records import Prompt, Turn
from cyclealign.reward_models.reward_model import RewardModel
from cyclealign.settings import JudgeSettings

VERSION = 3
"""Raised whenever equal requests would be answered otherwise than before."""
MEMORY = 100_000
"""Responses whose features are kept, and rewards; the judge forgets the oldest beyond that."""
NOISE = 0.25
"""Scale of the logistic noise on the evaluator's difference of two rewards, drawn anew for each request."""
TIE_MARGIN = 0.1
"""Differences up to this are a tie."""
UNKNOWN_SUBSET = "helpful-base"

Features = Callable[[str, str], Array]
"""The features [D] of a response, by instruction and response."""
Writer = Callable[[str], list[str]]
"""Drafts of a rewrite by instruction: at least one, none empty, the same for the same instruction."""
_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


class Judge(ChatModel[ParsedPrompt]):
    """Ranks the candidates by one opinion, and picks the best of its writer's drafts by the same opinion.

    An opinion is one draw from the prior, updated by the demonstrations in the prompt. Neither a ground truth nor the
    evaluation's reward model enters.

    Args:
        features: What it looks at in a response.
        writer: Proposes the rewrites.
        prior: Its belief about the features' weights before it reads any demonstration.
        settings: How much its opinions scatter (`noise`).
        fitted: Identity of what features and writer were fitted to.
    """

    kind, questions, parse = "judge", "ranking prompts", staticmethod(parse_ranking_prompt)

    def __init__(
        self, features: Features, writer: Writer, prior: Gaussian, settings: JudgeSettings, fitted: str = ""
    ) -> None:
        self._features, self._drafts = lru_cache(MEMORY)(features), lru_cache(MEMORY)(writer)
        self._prior, self._noise = prior, settings.noise
        self.identity = digest_of({"version": VERSION, "settings": settings.model_dump(), "fitted": fitted})[:16]

    def opinion(self, question: ParsedPrompt, seed: int) -> dict[str, Any]:
        """The fields that the prompt asks for (ranking, rewrite) under one draw of the weights."""
        shown = [
            self._look(demonstration.instruction, [demonstration.responses[i] for i in demonstration.ranking])
            for demonstration in question.demonstrations
        ]
        weights = posterior(self._prior, shown).draw(seed, self._noise)
        ranking = order(worths(self._look(question.instruction, question.responses), weights))
        if not question.rewrite:
            return {"desired rank": list(ranking)}
        drafts = self._drafts(question.instruction)
        best = order(worths(self._look(question.instruction, drafts), weights))[0]
        return {"desired rank": list(ranking), "response": drafts[best]}

    def _look(self, instruction: str, responses: Sequence[str]) -> Array:
        """Features [R, D] of these responses; one never depends on the others."""
        return np.stack([self._features(instruction, response) for response in responses])


class Evaluator(ChatModel[ParsedComparison]):
    """Compares two responses by the opinion of the evaluation's reward model, with an annotator's luck.

    It is not the judge that ranks in training: other weights, fitted on other pairs, and no demonstrations. It is no
    witness of its own beside that reward model either: it adds to Table 1 the road from a prompt to a verdict, with
    the errors and the inconsistency that a judge has on it.

    Args:
        reward_model: Whose opinion it is.
        prompts: Those of the comparisons: some reward models need a prompt's subset, which its text does not show.
    """

    kind, questions, parse = "evaluator", "comparison prompts", staticmethod(parse_comparison_prompt)

    def __init__(self, reward_model: RewardModel, prompts: Iterable[Prompt] = ()) -> None:
        self.identity = reward_model.identity
        self._prompts = {prompt.instruction: prompt for prompt in prompts}
        # Every pair comes twice, and one system meets several others.
        self._reward = lru_cache(MEMORY)(lambda prompt, text: reward_model.score([(prompt, text)])[0])

    def opinion(self, question: ParsedComparison, seed: int) -> dict[str, Any]:
        """A reason and the verdict."""
        prompt = self._prompts.get(question.instruction)
        if prompt is None:
            prompt = Prompt.from_turns(UNKNOWN_SUBSET, "test", turns_of(question.instruction))
        # An annotator who prefers with probability sigmoid(d): d plus a logistic draw is above 0.
        chance = random.Random(seed).uniform(1e-9, 1 - 1e-9)
        luck = math.log(chance / (1 - chance)) * NOISE
        gap = self._reward(prompt, question.first) - self._reward(prompt, question.second) + luck
        said = f"The first response seems better than the second by {gap:.2f}."
        return {"reasoning": said, "verdict": verdict(gap)}


def verdict(gap: float) -> Verdict:
    """What a difference in the first response's favour comes to."""
    if abs(gap) <= TIE_MARGIN:
        return "tie"
    return "first" if gap > 0 else "second"


def turns_of(instruction: str) -> tuple[Turn, ...]:
    """The turns of a dialogue in HH-RLHF's plain text; a text that is none counts as one human turn."""
    before, *spoken = _SPEAKER.split(instruction)
    turns = [
        Turn("human" if speaker == "Human" else "assistant", text.strip())
        for speaker, text in zip(spoken[::2], spoken[1::2], strict=True)
        if text.strip()
    ]
    return tuple(turns) if turns and not before.strip() else (Turn("human", instruction.strip()),)
