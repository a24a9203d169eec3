"""A judge that misfits: what the probe finds out before it is paid, and how its failing in a row pauses a run."""

import json
from typing import Any

import pytest

from cyclealign.errors import BudgetReached, EndpointRefused
from cyclealign.method.demonstrations import STATIC_DEMONSTRATION, Demonstration
from storage.ledger import Ledger
from tasks.asking.protocol import Direct
from tasks.asking.questions import Asker, Question, Result, asker_of
from tasks.cycle.ranking import ranking_question
from tests.black_box.model_server import ModelServer, answer
from tests.tasks.asked import QUICK, account, attempts, rows, script, spent
from tests.tasks.test_ranking import ANSWER, PROMPT, sampled, settings, shown

ASKED_FOR = {"temperature": 0.3, "seed": True, "reasoning_effort": "low"}


def refuses(*names: str, by: str) -> Any:
    """A plan: requests with one of these parameters get the behaviour `by`."""
    return lambda _number, body: by if any(name in body for name in names) else "good"


def ranking(server: ModelServer, step: int = 0) -> Question[Any]:
    return ranking_question(settings(server, black_box=ASKED_FOR), sampled(step), PROMPT, [STATIC_DEMONSTRATION])


def asked_twice(ledger: Ledger, server: ModelServer, **changes: Any) -> list[Result[Any]]:
    """One question in each of two processes, as far as the ledger can tell."""
    found = []
    for step in range(2):
        with asker_of(account(ledger, server, **{**ASKED_FOR, **changes})) as asker:
            found += asker.ask([ranking(server, step)])
    return found


TAKEN = {
    "everything": (refuses(by="good"), 1, {"response_format", "temperature", "reasoning_effort", "seed", "max_tokens"}),
    "no response_format, a bare string": (
        refuses("response_format", by="no json mode"),
        2,
        {"temperature", "reasoning_effort", "seed", "max_tokens"},
    ),
    "no temperature, named": (
        refuses("temperature", by="unsupported parameter"),
        2,
        {"response_format", "reasoning_effort", "seed", "max_tokens"},
    ),
    "no temperature, unnamed": (refuses("temperature", by="bad request"), 3, {"max_tokens"}),
    "another limit": (
        refuses("max_tokens", by="wants max_completion_tokens"),
        2,
        {"response_format", "temperature", "reasoning_effort", "seed", "max_completion_tokens"},
    ),
}


@pytest.mark.parametrize(("plan", "probes", "parameters"), TAKEN.values(), ids=list(TAKEN))
def test_the_probe_finds_the_form_that_is_taken_once_for_all(
    ledger: Ledger, server: ModelServer, plan: Any, probes: int, parameters: set[str]
) -> None:
    server.plan = plan
    assert [one.answer.ranking for one in asked_twice(ledger, server)] == [(1, 2, 0)] * 2
    tried, sent = server.requests[:probes], server.requests[probes:]
    assert len(sent) == 2
    assert {frozenset(body.keys() - {"model", "messages"}) for body in sent} == {frozenset(parameters)}
    assert {row["purpose"] for row in attempts(ledger)[:probes]} == {"probe"}
    assert len({body["messages"][0]["content"] for body in tried}) == 1


@pytest.mark.parametrize("behaviour", ["bad request", "too long", "422"])
def test_an_endpoint_that_takes_no_form_pauses_before_anything_is_spent(
    ledger: Ledger, server: ModelServer, behaviour: str
) -> None:
    server.plan = script(behaviour)
    with (
        asker_of(account(ledger, server)) as asker,
        pytest.raises(EndpointRefused, match=r"in no form: HTTP 4.*base_url"),
    ):
        asker.try_out()
    assert (len(server.requests), spent(ledger)) == (3, 0)
    server.plan = script("good")
    assert [one.reason for one in asked_twice(ledger, server)] == [None, None]


def test_thoughts_that_eat_the_limit_pause_at_the_probe(ledger: Ledger, server: ModelServer) -> None:
    server.plan = script("nothing but thoughts")
    with (
        asker_of(account(ledger, server)) as asker,
        pytest.raises(EndpointRefused, match=r"max_tokens .*reasoning_effort"),
    ):
        asker.try_out()
    assert len(server.requests) == 1


def test_the_probe_is_paid_under_the_cap(ledger: Ledger, server: ModelServer) -> None:
    with asker_of(account(ledger, server, budget_usd=0.001)) as asker, pytest.raises(BudgetReached):
        asker.try_out()
    assert server.requests == []


def test_a_wrong_answer_to_the_probe_is_said_and_kept(
    ledger: Ledger, server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.say = lambda _body: answer([0, 1])
    with asker_of(account(ledger, server)) as asker:
        asker.try_out()
    assert "ranks a wrong answer above the right one" in capsys.readouterr().err
    assert rows(ledger, "select answer from probes") == [{"answer": "ranks a wrong answer above the right one"}]


# Failing in a row


def asked_until_paused(ledger: Ledger, server: ModelServer, steps: range, **changes: Any) -> str:
    """Asks one question after the other; returns what the pause said."""
    with Asker(Direct(account(ledger, server, attempts=1, **changes), QUICK)) as asker:
        for step in steps:
            try:
                asker.ask([ranking(server, step)])
            except EndpointRefused as pause:
                return str(pause)
    return ""


MISFITS = [
    ("prose", "malformed", "follows the prompt's form"),
    ("nothing but thoughts", "truncated", "raise black_box.max_tokens"),
    ("bad request", "HTTP 400: no", "under black_box"),
]


@pytest.mark.parametrize(("behaviour", "found", "advice"), MISFITS, ids=lambda value: value)
def test_questions_that_fail_in_a_row_pause_and_are_asked_again_after_mending(
    ledger: Ledger, server: ModelServer, behaviour: str, found: str, advice: str
) -> None:
    server.plan = script(behaviour)
    said = asked_until_paused(ledger, server, range(10))
    assert "The last 3 questions" in said
    assert found in said
    assert advice in said
    server.plan = script("good")
    before = len(server.requests)
    assert asked_until_paused(ledger, server, range(10)) == ""
    assert len(server.requests) == before + 10


def test_an_outage_is_one_whenever_it_begins(ledger: Ledger, server: ModelServer) -> None:
    server.plan = lambda number, _body: "good" if number < 4 else "500"
    said = asked_until_paused(ledger, server, range(20))
    assert "does not answer. No call came through: 1 attempts failed, the last one so: HTTP 500" in said
    assert len(server.requests) == 6


def test_good_answers_make_for_more_patience_and_are_not_bought_again(ledger: Ledger, server: ModelServer) -> None:
    server.plan = lambda number, _body: "good" if number < 5 else "prose"
    assert "The last 4 questions" in asked_until_paused(ledger, server, range(20))
    server.plan = script("good")
    before = len(server.requests)
    assert asked_until_paused(ledger, server, range(9)) == ""
    assert len(server.requests) == before + 4


def test_refusals_are_the_models_word_on_single_questions(ledger: Ledger, server: ModelServer) -> None:
    server.plan = script("refusal")
    assert asked_until_paused(ledger, server, range(10)) == ""


# A context that is too short


def test_demonstrations_give_way_oldest_first_until_the_prompt_fits(ledger: Ledger, server: ModelServer) -> None:
    shown_ones = [
        STATIC_DEMONSTRATION,
        *(Demonstration(f"Human: {n}\n\nAssistant:", ("a", "b"), (0, 1)) for n in range(3)),
    ]
    of = settings(server)
    fits = ranking_question(of, sampled(), PROMPT, [shown_ones[0], shown_ones[3]]).request(0)[0]

    def plan(_number: int, body: dict[str, Any]) -> str:
        return "too long" if len(json.dumps(body)) > len(json.dumps(fits)) else "good"

    server.plan = plan
    with Asker(Direct(account(ledger, server), QUICK)) as asker:
        (first,) = asker.ask([ranking_question(of, sampled(), PROMPT, shown_ones)])
        tries = len(server.requests)
        (second,) = asker.ask([ranking_question(of, sampled(1), PROMPT, shown_ones)])
    assert (first.answer, first.left_out, tries) == (ANSWER, 2, 3)
    assert shown(server, 2).demonstrations == (shown_ones[0], shown_ones[3])
    assert (second.left_out, len(server.requests)) == (first.left_out, tries + 1)  # learnt for the next one


def test_a_prompt_that_is_too_long_without_demonstrations_is_rejected(ledger: Ledger, server: ModelServer) -> None:
    server.plan = script("too long")
    with Asker(Direct(account(ledger, server), QUICK)) as asker:
        (result,) = asker.ask([ranking(server)])
    assert (result.reason, result.left_out, spent(ledger)) == ("call_rejected", 1, 0)
