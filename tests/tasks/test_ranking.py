"""The question of a round: what it shows, and its answer in candidate ids, over real HTTP."""

from typing import Any

import pytest

from cyclealign.method.answers import Answer
from cyclealign.method.demonstrations import STATIC_DEMONSTRATION
from cyclealign.method.ranking_prompt import ParsedPrompt, parse_ranking_prompt
from cyclealign.profiles import resolve
from cyclealign.records import Prompt, Response, Turn
from cyclealign.settings import Settings
from storage import calls
from storage.ledger import Ledger
from storage.rounds import SampledRound
from tasks.asking.protocol import Direct
from tasks.asking.questions import Asker, Result
from tasks.cycle.ranking import ranking_question, shown_order
from tests.black_box.model_server import ModelServer, answer, ranking_of
from tests.tasks.asked import QUICK, account, rows, script

CANDIDATES = ("cherry", "apple", "banana")
ANSWER = Answer((1, 2, 0), "A better response.")
"""The server ranks alphabetically."""
PROMPT = Prompt.from_turns("helpful-base", "train", [Turn("human", "Which fruit?")])


def sampled(step: int = 0, round_: int = 1) -> SampledRound:
    responses = tuple(Response(text, (1,), True) for text in CANDIDATES)
    return SampledRound("a-run", step, round_, 0, PROMPT.prompt_id, responses, (), (0, 1, 2), 0.0, 0.0)


def settings(server: ModelServer, seed: int = 0, black_box: Any = (), **method: Any) -> Settings:
    asked = {"base_url": server.url, "model": "some-model", **dict(black_box)}
    profile = {"data": {"source": "folder"}, "white_box": {"model": "m"}, "black_box": asked, "method": method}
    return resolve("test", {**profile, "seed": seed}, {})


def rank(ledger: Ledger, server: ModelServer, of: Settings, *rounds: SampledRound) -> list[Result[Answer]]:
    """The results of these rounds' questions, asked one after the other."""
    questions = [ranking_question(of, one, PROMPT, [STATIC_DEMONSTRATION]) for one in rounds or [sampled()]]
    with Asker(Direct(account(ledger, server), QUICK)) as asker:
        return [result for one in questions for result in asker.ask([one])]


def shown(server: ModelServer, request: int = 0) -> ParsedPrompt:
    """What a request showed."""
    return parse_ranking_prompt(server.requests[request]["messages"][-1]["content"])


@pytest.mark.parametrize("behaviour", ["good", "ids as strings", "prose around", "no usage"], ids=str)
def test_the_ranking_comes_back_in_candidate_ids_whatever_the_order_shown(
    ledger: Ledger, server: ModelServer, behaviour: str
) -> None:
    server.plan, of, rounds = script(behaviour), settings(server), [sampled(step) for step in range(4)]
    assert [one.answer for one in rank(ledger, server, of, *rounds)] == [ANSWER] * 4
    orders = [shown_order(of, one, 0) for one in rounds]
    assert [shown(server, step).responses for step in range(4)] == [
        tuple(CANDIDATES[candidate] for candidate in order) for order in orders
    ]
    assert len(set(orders)) > 1
    assert shown(server).demonstrations == (STATIC_DEMONSTRATION,)


def test_without_shuffling_candidates_stand_in_their_own_order(ledger: Ledger, server: ModelServer) -> None:
    assert rank(ledger, server, settings(server, shuffle=False))[0].answer == ANSWER
    assert shown(server).responses == CANDIDATES


def test_without_a_rewrite_none_is_asked_for(ledger: Ledger, server: ModelServer) -> None:
    assert rank(ledger, server, settings(server, rewrite="off"))[0].answer == Answer(ANSWER.ranking, "")
    assert not shown(server).rewrite


UNREADABLE = {
    "wrong permutation": "malformed",
    "duplicate ids": "malformed",
    "missing ids": "malformed",
    "prose": "malformed",
    "null content": "malformed",
    "refusal": "refusal",
    "length": "truncated",
    "filtered answer": "content_filter",
}


@pytest.mark.parametrize("behaviour", UNREADABLE, ids=str)
def test_an_answer_that_does_not_count_is_asked_again_in_another_order_and_then_has_its_reason(
    ledger: Ledger, server: ModelServer, behaviour: str
) -> None:
    server.plan, of = script(behaviour, "good", behaviour), settings(server)
    again, never = rank(ledger, server, of, sampled(0), sampled(1))
    assert (again.answer, again.asks) == (ANSWER, 2)
    assert (never.answer, never.reason, never.asks, len(server.requests)) == (None, UNREADABLE[behaviour], 3, 5)
    verdicts = rows(ledger, "select verdict from api_calls where step = 0 order by ask")
    assert [one["verdict"] for one in verdicts] == [UNREADABLE[behaviour], "accepted"]
    assert len({shown_order(of, sampled(), ask) for ask in range(3)}) > 1


def test_copies_are_asked_for_again_and_the_call_of_a_tool_is_not(ledger: Ledger, server: ModelServer) -> None:
    copies = iter(["Which fruit?", "cherry", "apple"])
    server.say = lambda body: answer(ranking_of(body), next(copies))
    (copied,) = rank(ledger, server, settings(server))
    assert (copied.answer, copied.asks) == (Answer(ANSWER.ranking, "apple"), 3)  # the best candidate's own text
    server.say = lambda _body: {"content": None, "finish_reason": "tool_calls"}
    (called,) = rank(ledger, server, settings(server), sampled(step=1))
    assert (called.reason, called.asks) == ("malformed", 1)


def test_another_run_of_the_same_settings_buys_nothing_and_another_slot_is_asked(
    ledger: Ledger, server: ModelServer
) -> None:
    server.plan = script("refusal", "good")
    first, again = rank(ledger, server, settings(server)), rank(ledger, server, settings(server))
    assert [(one.answer, one.call_key, one.asks) for one in again] == [
        (one.answer, one.call_key, one.asks) for one in first
    ]
    assert len(server.requests) == 2
    rank(ledger, server, settings(server), sampled(step=1), sampled(round_=2))
    rank(ledger, server, settings(server, seed=1))
    assert len(server.requests) == 5


def test_the_call_key_and_the_order_are_the_same_in_every_version() -> None:
    of = settings(ModelServer(url="http://127.0.0.1:8000/v1"), seed=7)
    question = ranking_question(of, sampled(3, 2), PROMPT, [STATIC_DEMONSTRATION])
    requests = [question.request(ask) for ask in range(3)]
    keys = [calls.call_key(body, "http://127.0.0.1:8000/v1", slot)[:16] for body, slot in requests]
    assert keys == ["ab28163e57dd77c0", "13709cb8adafe7b1", "69208811325f3a80"]
    assert [shown_order(of, sampled(3, 2), ask) for ask in range(3)] == [(2, 0, 1), (0, 1, 2), (0, 2, 1)]


def test_the_seed_of_an_ask_is_its_own(ledger: Ledger, server: ModelServer) -> None:
    server.plan = script("prose")
    rank(ledger, server, settings(server, black_box={"seed": True}))
    assert len({request["seed"] for request in server.requests}) == 3
