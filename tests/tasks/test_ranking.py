"""From a question to a ranking in candidate ids or a reason: over real HTTP, into a real ledger."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.errors import EndpointRefused, RunPaused, UsageError
from cyclealign.method.demonstrations import STATIC_DEMONSTRATION, Demonstration
from cyclealign.method.ranking_prompt import parse_ranking_prompt
from cyclealign.records import Answer, Prompt, Turn
from cyclealign.settings import BlackBoxSettings, MethodSettings
from storage import calls
from storage.ledger import Ledger
from tasks.asking.pace import Backoff
from tasks.asking.protocol import Asker
from tasks.cycle.ranking import RankingDesk, RankingOutcome, RankingQuestion
from tests.models.black_box.fault_server import FaultServer

CANDIDATES = ("cherry", "apple", "banana")
BEST_FIRST = (1, 2, 0)
"""The server ranks alphabetically."""
PROMPT = Prompt.from_turns("helpful-base", "train", [Turn("human", "Which fruit?")])


def question(step: int = 0, round_: int = 1, **changes: Any) -> RankingQuestion:
    demonstrations: tuple[tuple[int, Demonstration], ...] = ((0, STATIC_DEMONSTRATION),)
    fields = {
        "step": step,
        "round": round_,
        "prompt": PROMPT,
        "candidates": CANDIDATES,
        "demonstrations": demonstrations,
        "run_seed": 0,
    }
    return RankingQuestion(**{**fields, **changes})


def black_box(server: FaultServer, **changes: Any) -> BlackBoxSettings:
    defaults = {"base_url": server.url, "model": "some-model", "timeout_s": 10, "attempts": 2}
    return BlackBoxSettings.model_validate({**defaults, **changes})


OpenDesk = Callable[..., RankingDesk]


@pytest.fixture
def desk(ledger: Ledger, server: FaultServer) -> Iterator[OpenDesk]:
    """Opens desks at the server; closes them after the test."""
    opened: list[RankingDesk] = []

    def open_desk(method: MethodSettings | None = None, **changes: Any) -> RankingDesk:
        settings = black_box(server, **changes)
        asker = Asker(ledger, ChatEndpoint(settings), settings, "run", Backoff(0.01, 0.05))
        opened.append(RankingDesk(asker, method or MethodSettings(), settings))
        return opened[-1]

    yield open_desk
    for one in opened:
        one.close()


def outcome_of(desk: RankingDesk, one: RankingQuestion | None = None) -> RankingOutcome:
    (outcome,) = desk.submit([one or question()]).result(timeout=20)
    return outcome


def shown(server: FaultServer, request: int) -> tuple[str, ...]:
    """The responses in the order in which a request showed them."""
    return parse_ranking_prompt(server.requests[request]["messages"][-1]["content"]).responses


@pytest.mark.parametrize("behaviour", ["good", "ids as strings", "prose around", "no usage"], ids=str)
def test_the_ranking_comes_back_in_candidate_ids(desk: OpenDesk, server: FaultServer, behaviour: str) -> None:
    server.plan = lambda _number, _body: behaviour
    outcome = outcome_of(desk())
    assert outcome.answer == Answer(BEST_FIRST, "A better response.")
    assert (outcome.unranked, outcome.asks) == (None, 1)


def test_the_candidates_are_shown_in_the_recorded_order(desk: OpenDesk, server: FaultServer) -> None:
    opened = desk()
    for step in range(4):
        outcome = outcome_of(opened, question(step))
        assert shown(server, step) == tuple(CANDIDATES[candidate] for candidate in outcome.permutation)
    assert len({shown(server, step) for step in range(4)}) > 1


def test_without_shuffling_candidates_stand_in_their_own_order(desk: OpenDesk, server: FaultServer) -> None:
    outcome = outcome_of(desk(MethodSettings(shuffle=False)))
    assert outcome.permutation == (0, 1, 2)
    assert shown(server, 0) == CANDIDATES


def test_demonstrations_stand_in_the_prompt(desk: OpenDesk, server: FaultServer) -> None:
    outcome_of(desk())
    parsed = parse_ranking_prompt(server.requests[0]["messages"][-1]["content"])
    assert parsed.demonstrations == (STATIC_DEMONSTRATION,)


def test_without_a_rewrite_none_is_asked_for(desk: OpenDesk, server: FaultServer) -> None:
    outcome = outcome_of(desk(MethodSettings(rewrite="off")))
    assert outcome.answer == Answer(BEST_FIRST, "")
    assert not parse_ranking_prompt(server.requests[0]["messages"][-1]["content"]).rewrite


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
def test_an_answer_that_does_not_count_is_asked_again_in_another_slot(
    desk: OpenDesk, ledger: Ledger, server: FaultServer, behaviour: str
) -> None:
    server.plan = lambda number, _body: "good" if number else behaviour
    outcome = outcome_of(desk())
    assert outcome.answer == Answer(BEST_FIRST, "A better response.")
    assert outcome.asks == 2
    verdicts, _ = ledger.query_anywhere("select ask, verdict from api_calls order by ask")
    assert verdicts["verdict"].tolist() == [UNREADABLE[behaviour], "accepted"]


@pytest.mark.parametrize("behaviour", UNREADABLE, ids=str)
def test_after_the_last_ask_the_reason_is_recorded(desk: OpenDesk, server: FaultServer, behaviour: str) -> None:
    server.plan = lambda _number, _body: behaviour
    outcome = outcome_of(desk())
    assert outcome.answer is None
    assert outcome.unranked is not None
    assert outcome.unranked.reason == UNREADABLE[behaviour]
    assert outcome.asks == len(server.requests) == 3


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("bad request", "call_rejected"), ("filtered prompt", "content_filter"), ("500", "call_failed")],
)
def test_a_call_that_cannot_be_made_is_not_asked_again(
    desk: OpenDesk, server: FaultServer, behaviour: str, reason: str
) -> None:
    server.plan = lambda number, _body: behaviour if number else "good"
    opened = desk()
    outcome_of(opened)
    outcome = outcome_of(opened, question(step=1))
    assert outcome.unranked is not None
    assert (outcome.unranked.reason, outcome.asks) == (reason, 1)


def test_another_run_of_the_same_settings_asks_nothing_again(desk: OpenDesk, server: FaultServer) -> None:
    server.plan = lambda number, _body: "good" if number else "refusal"
    first = outcome_of(desk())
    second = outcome_of(desk())
    assert (second.answer, second.asks, second.permutation) == (first.answer, first.asks, first.permutation)
    assert second.call_key == first.call_key
    assert len(server.requests) == 2


@pytest.mark.parametrize("changes", [{"run_seed": 1}, {"step": 1}, {"round_": 2}], ids=str)
def test_another_slot_is_asked(desk: OpenDesk, server: FaultServer, changes: dict[str, Any]) -> None:
    opened = desk(MethodSettings(shuffle=False))
    outcome_of(opened)
    outcome_of(opened, question(**changes))
    assert len(server.requests) == 2


def test_the_call_key_leads_to_the_call(desk: OpenDesk, ledger: Ledger) -> None:
    row = calls.find(ledger, outcome_of(desk()).call_key)
    assert row is not None
    assert (row.state, row.verdict) == ("answered", "accepted")


def test_outcomes_stand_in_the_order_of_the_questions(desk: OpenDesk, server: FaultServer) -> None:
    server.plan = lambda number, _body: "slow first byte" if number % 2 == 0 else "good"
    orders = [("c", "b", "a"), ("b", "a", "c"), ("a", "b", "c"), ("b", "c", "a")]
    questions = [question(step, candidates=order) for step, order in enumerate(orders)]
    outcomes = desk().submit(questions).result(timeout=20)
    assert [one.answer.ranking for one in outcomes if one.answer] == [(2, 1, 0), (1, 0, 2), (0, 1, 2), (2, 0, 1)]


def test_the_caller_goes_on_while_answers_are_under_way(desk: OpenDesk, server: FaultServer) -> None:
    server.plan = lambda _number, _body: "held"
    future = desk().submit([question()])
    assert not future.done()
    server.released.set()
    assert future.result(timeout=20)[0].answer is not None


def test_a_pause_reaches_the_caller_and_every_later_question(desk: OpenDesk, server: FaultServer) -> None:
    server.plan = lambda _number, _body: "quota"
    opened = desk(concurrency=1)
    with pytest.raises(EndpointRefused, match="add credit"):
        opened.submit([question(step) for step in range(5)]).result(timeout=20)
    with pytest.raises(EndpointRefused, match="add credit"):
        opened.submit([question(9)]).result(timeout=20)
    assert len(server.requests) == 1


def test_answers_that_arrive_beside_a_pause_are_kept(desk: OpenDesk, ledger: Ledger, server: FaultServer) -> None:
    server.plan = lambda number, _body: "quota" if number else "slow first byte"
    with pytest.raises(EndpointRefused):
        desk(concurrency=2).submit([question(0), question(1)]).result(timeout=20)
    states, _ = ledger.query_anywhere("select state from api_calls order by state")
    assert states["state"].tolist() == ["answered", "open"]


def test_closing_keeps_what_is_under_way_and_sends_nothing_more(
    desk: OpenDesk, ledger: Ledger, server: FaultServer
) -> None:
    server.plan = lambda _number, _body: "held"
    opened = desk(concurrency=1)
    future = opened.submit([question(0), question(1)])
    while not server.requests:
        time.sleep(0.005)
    closing = threading.Thread(target=opened.close)
    closing.start()
    try:
        with pytest.raises(RunPaused, match="closing"):
            opened.submit([question(2)]).result(timeout=20)
    finally:
        server.released.set()
        closing.join()
    with pytest.raises(RunPaused, match="closing"):
        future.result(timeout=0)
    states, _ = ledger.query_anywhere("select state, verdict from api_calls")
    assert states.to_dict("records") == [{"state": "answered", "verdict": "accepted"}]


def test_a_desk_can_be_closed_twice(desk: OpenDesk) -> None:
    opened = desk()
    assert "ranking-desk" in {thread.name for thread in threading.enumerate()}
    for _ in range(2):
        opened.close()
        assert "ranking-desk" not in {thread.name for thread in threading.enumerate()}


def test_a_parameter_that_the_model_does_not_take_is_refused_at_the_desk(desk: OpenDesk) -> None:
    with pytest.raises(UsageError, match=r"black_box\.temperature"):
        desk(model="gpt-5-mini", temperature=0)


def test_the_seed_of_an_ask_is_its_own(desk: OpenDesk, server: FaultServer) -> None:
    server.plan = lambda _number, _body: "prose"
    outcome_of(desk(seed=True))
    assert len({request["seed"] for request in server.requests}) == 3
