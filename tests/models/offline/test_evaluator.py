"""The offline evaluator compares by a reward model's opinion, with luck that the request alone decides."""

from collections.abc import Sequence
from typing import Any

import pytest

from cyclealign.method.comparison_prompt import read_comparison_answer, render_comparison_prompt
from cyclealign.offline.chat_messages import RequestUnreadable
from cyclealign.offline.evaluator import Evaluator, verdict
from cyclealign.records import Prompt, Turn

PROMPT = Prompt.from_turns("harmless-base", "test", [Turn("human", "Which fruit?")])


class Length:
    """Longer is better; notes which subsets it was told."""

    identity = "length"

    def __init__(self, unit: float = 1.0) -> None:
        self.unit = unit
        self.subsets: set[str] = set()

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[float]:
        self.subsets |= {prompt.subset for prompt, _ in items}
        return [self.unit * len(text) for _, text in items]


def body(first: str, second: str, **parameters: Any) -> dict[str, Any]:
    text = render_comparison_prompt(PROMPT.instruction, first, second)
    return {"model": "offline-evaluator", "messages": [{"role": "user", "content": text}], **parameters}


def said(evaluator: Evaluator, first: str, second: str, **parameters: Any) -> str:
    choice = evaluator.answer(body(first, second, **parameters))["choices"][0]
    return read_comparison_answer(choice["message"]["content"], choice["finish_reason"], None)


def test_a_clear_difference_wins_in_either_order() -> None:
    evaluator = Evaluator(Length())
    assert said(evaluator, "a long answer", "short") == "first"
    assert said(evaluator, "short", "a long answer") == "second"


def test_identical_requests_get_identical_answers_and_others_their_own_luck() -> None:
    evaluator = Evaluator(Length(unit=0.01))
    verdicts = [said(evaluator, "abc", "defg", seed=seed) for seed in range(30)]
    assert verdicts == [said(evaluator, "abc", "defg", seed=seed) for seed in range(30)]
    assert set(verdicts) == {"first", "second", "tie"}


def test_the_reward_model_is_told_the_subset_of_prompts_that_are_known() -> None:
    known, unknown = Length(), Length()
    Evaluator(known, [PROMPT]).answer(body("a", "b"))
    Evaluator(unknown).answer(body("a", "b"))
    assert known.subsets == {"harmless-base"}
    assert unknown.subsets == {"helpful-base"}


def test_a_small_difference_is_a_tie() -> None:
    assert [verdict(gap) for gap in (-0.2, -0.1, 0.0, 0.1, 0.2)] == ["second", "tie", "tie", "tie", "first"]


def test_other_prompts_are_refused() -> None:
    question = {"model": "m", "messages": [{"role": "user", "content": "Which is better?"}]}
    with pytest.raises(RequestUnreadable, match="comparison prompts only"):
        Evaluator(Length()).answer(question)
