"""From pairs of responses to verdicts in the ledger, over real HTTP: orders, ties, missing verdicts, reuse."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cyclealign.errors import BudgetReached
from storage.ledger import Ledger
from tasks.asking.channels import DirectChannel
from tasks.evaluation.comparison import Match, MatchCount, Pair, judge_identity, play
from tests.serving import serving
from tests.tasks.evaluated import account, longer_wins, match, pairs, verdict
from tests.tasks.model_server import ModelServer
from tests.tasks.paid_calls import PRICE, QUICK


@pytest.fixture
def judging() -> Iterator[ModelServer]:
    with serving(ModelServer(longer_wins)) as server:
        yield server


def played(ledger: Ledger, server: ModelServer, compared: tuple[Pair, ...], **changes: Any) -> MatchCount:
    both = changes.pop("both", True)
    judge = account(ledger, server, **changes)
    return _play(match(ledger, judge, compared, both), DirectChannel(judge, QUICK))


def _play(one: Match, channel: DirectChannel) -> MatchCount:
    count: MatchCount = play.fn(one, channel, lambda _message, _share: None)
    return count


def outcomes(ledger: Ledger) -> list[tuple[str, bool]]:
    """Of our system, in the order of the prompts."""
    frame, _ = ledger.query_anywhere("select generation_id, outcome, inconsistent from comparison_outcomes")
    found = {row.generation_id: (row.outcome, bool(row.inconsistent)) for row in frame.itertuples()}
    ours = [one.response.generation_id for one in pairs(*[("", "")] * 20)]
    return [found[one] for one in ours if one in found]


def test_each_pair_is_asked_in_both_orders_and_the_better_one_wins(ledger: Ledger, judging: ModelServer) -> None:
    count = played(ledger, judging, pairs(("long answer", "short")))
    assert count == MatchCount(asked=2, reused=0, identical=0, missing=0)
    assert outcomes(ledger) == [("win", False)]


def test_a_judge_that_always_says_first_yields_ties_alone_and_all_inconsistent(
    ledger: Ledger, judging: ModelServer
) -> None:
    judging.say = lambda _body: verdict("first")
    played(ledger, judging, pairs(("a", "b"), ("c", "d"), ("e", "f")))
    assert outcomes(ledger) == [("tie", True)] * 3


def test_shuffled_asks_once_and_shows_either_side_first(ledger: Ledger, judging: ModelServer) -> None:
    many = pairs(*((f"ours {number}", f"theirs {number}") for number in range(20)))
    assert played(ledger, judging, many, both=False).asked == 20
    first = {body["messages"][-1]["content"].split("### First response:\n> ")[1][:4] for body in judging.asked}
    assert first == {"ours", "thei"}


def test_identical_responses_are_a_tie_that_nobody_is_asked_about(ledger: Ledger, judging: ModelServer) -> None:
    assert played(ledger, judging, pairs(("same", "same"))) == MatchCount(0, 0, 2, 0)
    assert judging.asked == []
    assert outcomes(ledger) == [("tie", False)]


def test_a_second_time_nothing_is_asked(ledger: Ledger, judging: ModelServer) -> None:
    compared = pairs(("long answer", "short"), ("x", "longer one"))
    played(ledger, judging, compared)
    asked = len(judging.asked)
    assert played(ledger, judging, compared) == MatchCount(asked=0, reused=4, identical=0, missing=0)
    assert len(judging.asked) == asked


def test_the_same_question_of_another_run_is_bought_once(ledger: Ledger, judging: ModelServer) -> None:
    played(ledger, judging, pairs(("long answer", "short")))
    with_other_name = account(ledger, judging)
    swapped = tuple(Pair(one.prompt, one.against, one.response) for one in pairs(("long answer", "short")))
    count = _play(match(ledger, with_other_name, swapped), DirectChannel(with_other_name, QUICK))
    assert count.reused == 2
    assert len(judging.asked) == 2


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        pytest.param("The first one.", "malformed", id="prose"),
        pytest.param({"content": None, "refusal": "No."}, "refusal", id="refusal"),
        pytest.param({"content": verdict("first"), "finish_reason": "length"}, "truncated", id="truncated"),
    ],
)
def test_what_cannot_be_read_is_asked_again_and_then_missing_with_its_reason(
    ledger: Ledger, judging: ModelServer, said: Any, reason: str
) -> None:
    judging.say = lambda _body: said
    count = played(ledger, judging, pairs(("a", "b")))
    assert (count.asked, count.missing, len(judging.asked)) == (2, 2, 4)
    assert outcomes(ledger) == [("missing", False)]
    frame, _ = ledger.query_anywhere("select distinct reason from comparisons")
    assert list(frame["reason"]) == [reason]
    again = played(ledger, judging, pairs(("a", "b")))
    assert (again.missing, len(judging.asked)) == (2, 4)  # the recorded answers are read, not bought again


def test_a_missing_verdict_is_found_when_the_endpoint_has_recovered(ledger: Ledger, judging: ModelServer) -> None:
    down = account(ledger, judging, base_url="http://127.0.0.1:9/v1")
    judge = account(ledger, judging)
    lost = Match(**{**_fields(match(ledger, judge, pairs(("longer", "b")))), "settings": down.settings})
    with pytest.raises(Exception, match="does not answer"):
        _play(lost, DirectChannel(down, QUICK))
    played(ledger, judging, pairs(("longer", "b")))
    assert outcomes(ledger) == [("win", False)]


def _fields(one: Match) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Match.__dataclass_fields__}


def test_another_model_or_other_parameters_are_another_judge(ledger: Ledger, judging: ModelServer) -> None:
    changed: list[Callable[[], str]] = [
        lambda: judge_identity(account(ledger, judging)),
        lambda: judge_identity(account(ledger, judging, model="another")),
        lambda: judge_identity(account(ledger, judging, temperature=0)),
        lambda: judge_identity(account(ledger, judging, base_url="http://localhost:1/v1")),
    ]
    assert len({identity() for identity in changed}) == 4
    assert judge_identity(account(ledger, judging, concurrency=1)) == judge_identity(account(ledger, judging))


def test_the_cap_holds_and_names_its_setting(ledger: Ledger, judging: ModelServer) -> None:
    judge = account(ledger, judging, budget_usd=0.0001, price=PRICE)
    capped = DirectChannel(type(judge)(ledger, "run", judge.settings, judge.open_endpoint, "evaluation.judge.cap"))
    with pytest.raises(BudgetReached, match=r"evaluation\.judge\.cap"):
        _play(match(ledger, judge, pairs(("a", "b"))), capped)
    assert judging.asked == []
