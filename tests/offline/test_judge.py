"""The offline judges on synthetic features and rewards: what they read, learn and refuse, also behind HTTP."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp

from cyclealign.method.answers import read_ranking_answer
from cyclealign.method.comparison_prompt import read_comparison_answer, render_comparison_prompt
from cyclealign.method.demonstrations import Demonstration
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.offline.chat_server import RequestUnreadable, create_app
from cyclealign.offline.judge import Evaluator, Judge, turns_of, verdict
from cyclealign.offline.regression import Array, Gaussian
from cyclealign.records import Prompt, Speaker, Turn, render_dialogue
from cyclealign.seeds import derive_seed
from cyclealign.settings import JudgeSettings

TRUTH = np.random.default_rng(0).standard_normal(8)
PRIOR = Gaussian(np.zeros(8), np.eye(8) / 0.5**2)
PROMPT = Prompt.from_turns("harmless-base", "test", [Turn("human", "Which fruit?")])


def hashed(instruction: str, response: str) -> Array:
    """Eight random figures of its own for each text."""
    return np.random.default_rng(derive_seed(instruction, response)).standard_normal(8)


def three_drafts(instruction: str) -> list[str]:
    return [f"{instruction[:5]} draft {index}" for index in range(3)]


def judge(noise: float = 1.0, fitted: str = "") -> Judge:
    return Judge(hashed, three_drafts, PRIOR, JudgeSettings(noise=noise), fitted)


def truly_ordered(instruction: str, responses: Sequence[str]) -> tuple[int, ...]:
    worth = [hashed(instruction, response) @ TRUTH for response in responses]
    return tuple(int(index) for index in np.argsort(worth)[::-1])


def demonstration(number: int) -> Demonstration:
    instruction, responses = f"Human: {number}\n\nAssistant:", tuple(f"answer {number}.{i}" for i in range(3))
    return Demonstration(instruction, responses, truly_ordered(instruction, responses))


def asked(text: str, **parameters: Any) -> dict[str, Any]:
    return {"model": "offline-judge", "messages": [{"role": "user", "content": text}], **parameters}


def body(
    number: int = 0, demonstrations: Sequence[Demonstration] = (), rewrite: bool = True, **parameters: Any
) -> dict[str, Any]:
    responses = [f"case {number}.{i}" for i in range(3)]
    text = render_ranking_prompt(f"Human: q{number}\n\nAssistant:", responses, demonstrations, rewrite)
    return asked(text, **parameters)


def content(reply: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(reply["choices"][0]["message"]["content"]))


def test_the_answer_passes_the_strict_reader() -> None:
    reply = judge().answer(body())
    choice, usage = reply["choices"][0], reply["usage"]
    answer = read_ranking_answer(choice["message"]["content"], choice["finish_reason"], None, 3)
    assert sorted(answer.ranking) == [0, 1, 2]
    assert answer.rewrite in three_drafts("Human: q0")
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert min(usage.values()) > 0
    assert set(content(judge().answer(body(rewrite=False)))) == {"desired rank"}


def test_identical_requests_get_identical_answers_in_any_order_and_another_seed_is_another_draw() -> None:
    bodies = [body(number, [demonstration(1)]) for number in range(5)]
    one, two = judge(), judge()
    forwards = [one.answer(asked) for asked in bodies]
    backwards = [two.answer(asked) for asked in reversed(bodies)]
    assert forwards == backwards[::-1] == [one.answer(asked) for asked in bodies]
    assert len({str(content(one.answer(body(seed=seed)))) for seed in range(20)}) > 1
    assert len({str(content(judge(noise=0).answer(body(seed=seed)))) for seed in range(20)}) == 1


def test_the_more_good_demonstrations_the_better_it_ranks() -> None:
    def accuracy(demonstrations: Sequence[Demonstration]) -> float:
        one, right = judge(), []
        for number in range(200):
            ranking = content(one.answer(body(number, demonstrations)))["desired rank"]
            truth = truly_ordered(f"Human: q{number}\n\nAssistant:", [f"case {number}.{i}" for i in range(3)])
            right.append(ranking.index(truth[0]) < ranking.index(truth[-1]))
        return float(np.mean(right))

    none, few, many = (accuracy([demonstration(n) for n in range(count)]) for count in (0, 10, 60))
    assert none + 0.05 < few < many
    assert many > 0.85


def test_an_answer_longer_than_the_limit_is_cut_and_says_so() -> None:
    cut = judge().answer(body(max_tokens=4))
    assert (cut["choices"][0]["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 4)
    assert cut["choices"][0]["message"]["content"] == '{"desired rank'


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        pytest.param({"messages": []}, "at least one message", id="no messages"),
        pytest.param({"messages": "hello"}, "at least one message", id="messages are text"),
        pytest.param({"messages": [{"role": "assistant", "content": "hello"}]}, "role user", id="not a question"),
        pytest.param({"messages": [{"role": "user", "content": None}]}, "role user", id="no content"),
        pytest.param(asked("hello"), "This judge answers ranking prompts only", id="small talk"),
        pytest.param(asked("\ud800"), "ranking prompts only", id="surrogate"),
        pytest.param(body(stream=True), "stream", id="streaming"),
        pytest.param(body(n=2), "n = 2", id="two answers"),
        pytest.param(body(max_tokens=-1), "token limit", id="negative limit"),
    ],
)
def test_a_request_that_it_cannot_answer_is_refused(request_: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RequestUnreadable, match=complaint):
        judge().answer(request_)


def test_a_judge_that_would_answer_otherwise_has_another_identity() -> None:
    judges = judge(), judge(), judge(noise=0.25), judge(fitted="elsewhere")
    assert len({one.identity for one in judges}) == 3


class Length:
    """Longer is better; notes the subsets of the prompts."""

    identity = "length"

    def __init__(self, unit: float = 1.0) -> None:
        self.unit = unit
        self.subsets: set[str] = set()

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[float]:
        self.subsets |= {prompt.subset for prompt, _ in items}
        return [self.unit * len(text) for _, text in items]


def compared(evaluator: Evaluator, first: str, second: str, **parameters: Any) -> str:
    reply = evaluator.answer(asked(render_comparison_prompt(PROMPT.instruction, first, second), **parameters))
    choice = reply["choices"][0]
    return read_comparison_answer(choice["message"]["content"], choice["finish_reason"], None)


def test_a_clear_difference_wins_in_either_order_and_a_small_one_is_a_tie_or_luck() -> None:
    assert compared(Evaluator(Length()), "a long answer", "short") == "first"
    assert compared(Evaluator(Length()), "short", "a long answer") == "second"
    assert [verdict(gap) for gap in (-0.2, -0.1, 0.0, 0.1, 0.2)] == ["second", "tie", "tie", "tie", "first"]
    evaluator = Evaluator(Length(unit=0.01))
    one, two = ([compared(evaluator, "abc", "defg", seed=seed) for seed in range(30)] for _ in range(2))
    assert one == two  # identical requests, identical luck
    assert set(one) == {"first", "second", "tie"}


@pytest.mark.parametrize(("known", "subset"), [([PROMPT], "harmless-base"), ([], "helpful-base")])
def test_the_reward_model_gets_the_subset_of_known_prompts(known: list[Prompt], subset: str) -> None:
    reward_model = Length()
    compared(Evaluator(reward_model, known), "a", "b")
    assert reward_model.subsets == {subset}


def test_the_evaluator_refuses_other_prompts() -> None:
    with pytest.raises(RequestUnreadable, match="This evaluator answers comparison prompts only"):
        Evaluator(Length()).answer(asked("Which is better?"))


SPOKEN = st.text("ab:? \n", min_size=1, max_size=12).map(str.strip).filter(bool)
SPEAKERS: tuple[Speaker, Speaker] = ("human", "assistant")


@given(st.lists(SPOKEN, min_size=1, max_size=5))
def test_a_dialogue_is_read_back_from_the_text_of_the_prompt(texts: list[str]) -> None:
    turns = tuple(Turn(SPEAKERS[index % 2], text) for index, text in enumerate(texts))
    assert turns_of(render_dialogue(turns)) == turns


def test_a_text_that_is_no_dialogue_is_one_human_turn() -> None:
    assert turns_of("Please rank.\n\nHuman: these") == (Turn("human", "Please rank.\n\nHuman: these"),)


PATH = "/v1/chat/completions"


def ask(app: ASGIApp, *requests: dict[str, Any]) -> list[httpx2.Response]:
    """The answers to requests that are in flight together."""

    async def all_at_once() -> list[httpx2.Response]:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://offline.invalid") as client:
            posts = ({"method": "POST", "url": PATH, **request} for request in requests)
            return list(await asyncio.gather(*(client.request(**post) for post in posts)))

    return asyncio.run(all_at_once())


def test_requests_in_flight_together_are_answered_as_if_they_were_alone() -> None:
    app, bodies = create_app(judge(), "offline-judge"), [body(seed=seed) for seed in range(8)]
    listed, *replies = ask(app, {"method": "GET", "url": "/v1/models"}, *({"json": one} for one in bodies))
    assert [entry["id"] for entry in listed.json()["data"]] == ["offline-judge"]
    assert [reply.status_code for reply in replies] == [200] * 8
    assert [reply.json() for reply in replies] == [judge().answer(one) for one in bodies]


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        pytest.param({"content": b"{not json"}, 400, "invalid_json", id="broken JSON"),
        pytest.param({"content": b"\xff"}, 400, "invalid_json", id="no text"),
        pytest.param({"json": [1]}, 400, "invalid_json", id="a list"),
        pytest.param({"json": {**body(), "model": "gpt-4"}}, 404, "model_not_found", id="unknown model"),
        pytest.param({"json": {"model": "offline-judge"}}, 400, "unreadable_request", id="no messages"),
    ],
)
def test_errors_have_the_format_of_openai(request_: dict[str, Any], status: int, code: str) -> None:
    [reply] = ask(create_app(judge(), "offline-judge"), request_)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code)
    assert error["message"]
