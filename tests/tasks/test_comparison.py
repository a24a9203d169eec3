"""From pairs of responses to verdicts in the ledger, over real HTTP: orders, ties, missing verdicts, reuse."""

import json
from collections import Counter
from typing import Any

import pytest

from cyclealign.errors import BudgetReached
from cyclealign.settings import BatchSettings
from storage.evaluations import Generation
from storage.ledger import Ledger
from tasks.asking.batching import Batches
from tasks.asking.protocol import Account, Direct
from tasks.asking.questions import Asker
from tasks.evaluation.comparison import Match, judge_identity, pairs_of, play
from tests.black_box.model_server import ModelServer
from tests.tasks.asked import QUICK, account, longer_wins, prompt, rows, verdict


@pytest.fixture
def judging(server: ModelServer) -> ModelServer:
    """A judge that likes length."""
    server.say = longer_wins
    return server


def generation(system: str, number: int, text: str) -> Generation:
    return Generation(system, prompt(number).prompt_id, {"max_new_tokens": 8}, text, 3, True, 0.0, 0.1)


def match(judge: Account, *texts: tuple[str, str], both: bool = True) -> Match:
    """Our responses and theirs, to a prompt each."""
    shown = [
        pairs_of(prompt(number), generation("ours", number, ours), generation("theirs", number, theirs), both)
        for number, (ours, theirs) in enumerate(texts)
    ]
    return Match("PRO", "helpful-base", judge_identity(judge), tuple(shown))


def played(judge: Account, *texts: tuple[str, str], both: bool = True, way: Batches | None = None) -> dict[str, int]:
    with Asker(way or Direct(judge, QUICK)) as asker:
        count: Counter[str] = play.fn(match(judge, *texts, both=both), asker, lambda _message, _share: None)
    return {name: number for name, number in count.items() if number}


def outcomes(ledger: Ledger) -> list[tuple[str, bool]]:
    """Of our system, in the order of the prompts."""
    found = rows(ledger, "select generation_id, outcome, inconsistent from comparison_outcomes")
    by_id = {row["generation_id"]: (row["outcome"], bool(row["inconsistent"])) for row in found}
    ours = [generation("ours", number, "").generation_id for number in range(20)]
    return [by_id[one] for one in ours if one in by_id]


def test_each_pair_is_asked_in_both_orders_and_the_better_one_wins(ledger: Ledger, judging: ModelServer) -> None:
    assert played(account(ledger, judging), ("long answer", "short")) == {"asked": 2}
    assert outcomes(ledger) == [("win", False)]


def test_a_judge_that_always_says_first_yields_ties_alone_and_all_inconsistent(
    ledger: Ledger, judging: ModelServer
) -> None:
    judging.say = lambda _body: verdict("first")
    played(account(ledger, judging), ("a", "b"), ("c", "d"), ("e", "f"))
    assert outcomes(ledger) == [("tie", True)] * 3


def test_shuffled_asks_once_and_shows_either_side_first(ledger: Ledger, judging: ModelServer) -> None:
    many = [(f"ours {number}", f"theirs {number}") for number in range(20)]
    assert played(account(ledger, judging), *many, both=False) == {"asked": 20}
    first = {body["messages"][-1]["content"].split("### First response:\n> ")[1][:4] for body in judging.requests}
    assert first == {"ours", "thei"}


def test_identical_responses_are_a_tie_without_asking(ledger: Ledger, judging: ModelServer) -> None:
    assert played(account(ledger, judging), ("same", "same")) == {"identical": 2}
    assert (judging.requests, outcomes(ledger)) == ([], [("tie", False)])


def test_a_second_time_and_from_the_other_side_nothing_is_asked(ledger: Ledger, judging: ModelServer) -> None:
    judge = account(ledger, judging)
    played(judge, ("long answer", "short"), ("x", "longer one"))
    assert played(judge, ("long answer", "short"), ("x", "longer one")) == {"reused": 4}
    swapped = pairs_of(prompt(0), generation("theirs", 0, "short"), generation("ours", 0, "long answer"), True)
    assert Match("PRO", "helpful-base", judge_identity(judge), (swapped,)).missing(ledger) == []
    assert len(judging.requests) == 4


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
    assert played(account(ledger, judging), ("a", "b")) == {"asked": 2, "missing": 2}
    assert len(judging.requests) == 4
    assert outcomes(ledger) == [("missing", False)]
    assert rows(ledger, "select distinct reason from comparisons") == [{"reason": reason}]
    again = played(account(ledger, judging), ("a", "b"))
    assert (again["missing"], len(judging.requests)) == (2, 4)  # the recorded answers are read, not bought again


def test_a_missing_verdict_is_found_when_the_endpoint_has_recovered(ledger: Ledger, judging: ModelServer) -> None:
    judging.plan = lambda number, _body: "500" if number else "good"
    judge = account(ledger, judging, concurrency=1, attempts=1)
    assert played(judge, ("longer", "b"))["missing"] == 1
    judging.plan = lambda _number, _body: "good"
    assert played(judge, ("longer", "b")) == {"asked": 1, "reused": 1}
    assert outcomes(ledger) == [("win", False)]


def test_another_model_or_other_parameters_are_another_judge(ledger: Ledger, judging: ModelServer) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"model": "another"},
        {"temperature": 0},
        {"base_url": "http://localhost:1/v1"},
    ]
    identities = {judge_identity(account(ledger, judging, **change)) for change in changes}
    assert len(identities) == 4
    assert judge_identity(account(ledger, judging, concurrency=1)) in identities


def test_the_cap_holds_and_names_its_setting(ledger: Ledger, judging: ModelServer) -> None:
    judge = account(ledger, judging, budget_usd=0.0001)
    with pytest.raises(BudgetReached, match=r"evaluation\.judge\.cap"):
        played(Account(ledger, "run", judge.settings, judge.open_endpoint, "evaluation.judge.cap"), ("a", "b"))
    assert judging.requests == []


def test_a_whole_match_is_judged_through_a_batch(ledger: Ledger, judging: ModelServer) -> None:
    judge = account(ledger, judging)
    batches = Batches(judge, BatchSettings(enabled=True, poll_s=0.05), QUICK)
    assert played(judge, ("long answer", "short"), ("x", "longer"), way=batches) == {"asked": 4}
    assert (judging.requests, len(judging.batches)) == ([], 1)
    assert json.loads(judging.files["file-0"].splitlines()[0])["url"] == "/v1/chat/completions"


def test_the_call_key_is_the_same_in_every_version(ledger: Ledger) -> None:
    judge = account(ledger, ModelServer(url="http://127.0.0.1:8000/v1"))
    assert judge_identity(judge) == "some-model (http://127.0.0.1:8000/v1, e78467c7)"
