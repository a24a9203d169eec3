"""The offline judge on synthetic features: what it reads, what it learns, what it refuses."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from cyclealign.method.answers import read_ranking_answer
from cyclealign.method.demonstrations import Demonstration
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.offline.chat_messages import RequestUnreadable
from cyclealign.offline.judge import Judge
from cyclealign.offline.ranker import Array, Gaussian
from cyclealign.offline.settings import JudgeSettings
from cyclealign.seeds import derive_seed

TRUTH = np.random.default_rng(0).standard_normal(8)


class HashedFeatures:
    """Each text has eight random figures of its own."""

    size = 8

    def __call__(self, instruction: str, responses: Sequence[str]) -> Array:
        seeds = [derive_seed(instruction, text) for text in responses]
        return np.stack([np.random.default_rng(seed).standard_normal(self.size) for seed in seeds])


class FixedWriter:
    """Always the same three drafts."""

    def drafts(self, instruction: str) -> list[str]:
        return [f"{instruction[:5]} draft {index}" for index in range(3)]


def judge(noise: float = 1.0) -> Judge:
    return Judge(HashedFeatures(), FixedWriter(), Gaussian.isotropic(8, 0.5), JudgeSettings(noise=noise))


def truly_ordered(instruction: str, responses: Sequence[str]) -> tuple[int, ...]:
    worth = HashedFeatures()(instruction, responses) @ TRUTH
    return tuple(int(index) for index in np.argsort(-worth))


def demonstration(number: int) -> Demonstration:
    instruction, responses = f"Human: {number}\n\nAssistant:", tuple(f"answer {number}.{i}" for i in range(3))
    return Demonstration(instruction, responses, truly_ordered(instruction, responses))


def body(
    number: int = 0, demonstrations: Sequence[Demonstration] = (), rewrite: bool = True, **parameters: Any
) -> dict[str, Any]:
    responses = [f"case {number}.{i}" for i in range(3)]
    text = render_ranking_prompt(f"Human: q{number}\n\nAssistant:", responses, demonstrations, rewrite)
    return {"model": "offline-judge", "messages": [{"role": "user", "content": text}], **parameters}


def content(reply: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(reply["choices"][0]["message"]["content"]))


def accuracy(demonstrations: Sequence[Demonstration]) -> float:
    asked, right = judge(), []
    for number in range(200):
        ranking = content(asked.answer(body(number, demonstrations)))["desired rank"]
        truth = truly_ordered(f"Human: q{number}\n\nAssistant:", [f"case {number}.{i}" for i in range(3)])
        right.append(ranking.index(truth[0]) < ranking.index(truth[-1]))
    return float(np.mean(right))


def test_the_answer_passes_the_strict_reader() -> None:
    reply = judge().answer(body())
    choice = reply["choices"][0]
    answer = read_ranking_answer(choice["message"]["content"], choice["finish_reason"], None, 3)
    assert sorted(answer.ranking) == [0, 1, 2]
    assert answer.rewrite in FixedWriter().drafts("Human: q0")


def test_identical_requests_get_identical_answers_in_any_order() -> None:
    bodies = [body(number, [demonstration(1)]) for number in range(5)]
    one, two = judge(), judge()
    forwards = [one.answer(asked) for asked in bodies]
    backwards = [two.answer(asked) for asked in reversed(bodies)]
    assert forwards == backwards[::-1] == [one.answer(asked) for asked in bodies]


def test_another_seed_in_the_request_is_another_draw() -> None:
    said = {json.dumps(content(judge().answer(body(seed=seed)))) for seed in range(20)}
    assert len(said) > 1
    assert len({json.dumps(content(judge(noise=0).answer(body(seed=seed)))) for seed in range(20)}) == 1


def test_the_more_good_demonstrations_the_better_it_ranks() -> None:
    none, few, many = (accuracy([demonstration(n) for n in range(count)]) for count in (0, 10, 60))
    assert none + 0.05 < few < many
    assert many > 0.85


def test_a_prompt_that_asks_for_no_rewrite_gets_none() -> None:
    assert set(content(judge().answer(body(rewrite=False)))) == {"desired rank"}


def test_usage_counts_what_was_asked_and_said() -> None:
    usage = judge().answer(body())["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert min(usage.values()) > 0


def test_an_answer_longer_than_the_limit_is_cut_and_says_so() -> None:
    whole, cut = judge().answer(body()), judge().answer(body(max_tokens=4))
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["usage"]["completion_tokens"] == 4
    assert len(cut["choices"][0]["message"]["content"]) < len(whole["choices"][0]["message"]["content"])


UNREADABLE = [
    pytest.param({"messages": []}, "at least one message", id="no messages"),
    pytest.param({"messages": "hello"}, "at least one message", id="messages are text"),
    pytest.param({"messages": [{"role": "assistant", "content": "hello"}]}, "role user", id="not a question"),
    pytest.param({"messages": [{"role": "user", "content": None}]}, "role user", id="no content"),
    pytest.param({"messages": [{"role": "user", "content": "hello"}]}, "ranking prompts only", id="small talk"),
    pytest.param({"messages": [{"role": "user", "content": "\ud800"}]}, "ranking prompts only", id="surrogate"),
    pytest.param({**body(), "stream": True}, "stream", id="streaming"),
    pytest.param({**body(), "n": 2}, "n = 2", id="two answers"),
    pytest.param({**body(), "max_tokens": -1}, "token limit", id="negative limit"),
]


@pytest.mark.parametrize(("asked", "complaint"), UNREADABLE)
def test_what_it_cannot_answer_it_refuses(asked: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RequestUnreadable, match=complaint):
        judge().answer(asked)


def test_a_prior_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="one per feature: 8"):
        Judge(HashedFeatures(), FixedWriter(), Gaussian.isotropic(3, 1.0), JudgeSettings())


def test_a_judge_that_would_answer_otherwise_has_another_identity() -> None:
    parts = (HashedFeatures(), FixedWriter(), Gaussian.isotropic(8, 0.5))
    identities = {
        Judge(*parts, JudgeSettings()).identity,
        Judge(*parts, JudgeSettings(noise=0.25)).identity,
        Judge(*parts, JudgeSettings(), fitted="elsewhere").identity,
    }
    assert len(identities) == 3
    assert Judge(*parts, JudgeSettings()).identity in identities
