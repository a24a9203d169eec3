"""Recorded rankings asked again in another order, over real HTTP: the same question otherwise, once, and readable."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.errors import BudgetReached
from cyclealign.method.demonstrations import STATIC_DEMONSTRATION
from cyclealign.method.ranking_prompt import parse_ranking_prompt
from cyclealign.profiles import merge, resolve
from cyclealign.report.audit_tables import audit_table, served_models
from storage import audits, rounds, runs, samples
from storage.ledger import Ledger
from storage.samples import NewSample
from tasks.asking.channels import RUN_CAP, DirectChannel, account
from tasks.context import RunContext
from tasks.evaluation.audit import audit_rankings, choose, other_order
from tests.serving import serving
from tests.storage.values import new_run, pair, ranked, sampled
from tests.tasks.model_server import ModelServer
from tests.tasks.paid_calls import PRICE, QUICK

STEPS = 10


def by_name(body: dict[str, Any]) -> str:
    """Ranks by the number in the candidates' texts, whatever their order."""
    shown = parse_ranking_prompt(body["messages"][-1]["content"])
    order = sorted(range(len(shown.responses)), key=lambda position: shown.responses[position])
    return json.dumps({"desired rank": order, "response": "better"})


@pytest.fixture
def asked() -> Iterator[ModelServer]:
    with serving(ModelServer(by_name)) as server:
        yield server


@pytest.fixture
def context(ledger: Ledger, asked: ModelServer) -> RunContext:
    """A run of ten steps whose black box ranked 0, 2, 1 each time."""
    runs.register(ledger, new_run("run"))
    pairs = tuple(pair(f"question {step}") for step in range(STEPS))
    samples.put(ledger, NewSample("s", "training", "d", pairs))
    rounds.record_static(ledger, "run", STATIC_DEMONSTRATION)
    ids = [one.prompt.prompt_id for one in pairs]
    wave = [sampled(step) for step in range(STEPS)]
    rounds.record_sampled(ledger, "run", [replace(one, prompt_id=ids[one.step]) for one in wave])
    rounds.record_ranked(ledger, "run", [replace(ranked(step), demonstrations_shown=(0,)) for step in range(STEPS)])
    black_box = {"base_url": asked.url, "model": "some-model", "attempts": 2, "asks": 2}
    mapping = {"data": {"source": "folder"}, "white_box": {"model": "m"}, "black_box": black_box}
    return RunContext(ledger.home, "run", resolve("p", mapping, {}), ledger)


def audit(context: RunContext, share: float = 1.0, seed: int = 0, **black_box: Any) -> int:
    settings = merge(context.settings.model_dump(mode="json"), {"black_box": black_box})
    changed = context.settings.model_validate(settings)
    here = replace(context, settings=changed)
    with_whom = account(here, changed.black_box, lambda: ChatEndpoint(changed.black_box), RUN_CAP)
    asked: int = audit_rankings.fn(here, DirectChannel(with_whom, QUICK), share, seed)
    return asked


def test_the_question_is_the_recorded_one_in_another_order(context: RunContext, asked: ModelServer) -> None:
    assert audit(context) == STEPS
    for body in asked.asked:
        shown = parse_ranking_prompt(body["messages"][-1]["content"])
        assert shown.demonstrations == (STATIC_DEMONSTRATION,)
        ids = [int(text.split()[1]) for text in shown.responses]
        assert sorted(ids) == [0, 1, 2]
        assert ids != [2, 0, 1]  # the recorded permutation


def test_answers_are_mapped_back_to_candidates(context: RunContext) -> None:
    audit(context)
    rows = audits.collect(context.ledger, "run")
    assert [tuple(row) for row in rows["repeated_ranking"]] == [(0, 1, 2)] * STEPS
    assert [tuple(row) for row in rows["recorded_ranking"]] == [(0, 2, 1)] * STEPS
    assert set(rows["repeated_model"]) == {"served"}
    assert rows["reason"].isna().all()


def test_an_audit_is_paid_once_and_a_larger_share_holds_the_smaller(context: RunContext, asked: ModelServer) -> None:
    assert audit(context, share=0.25) == 3
    assert audit(context, share=0.25) == 0
    assert audit(context, share=0.5) == 2
    assert audit(context, share=0.25, seed=1) == 3
    assert len(asked.asked) == 8
    frame, _ = context.ledger.query_anywhere("select distinct purpose from api_calls")
    assert list(frame["purpose"]) == ["audit"]


def test_what_cannot_be_read_is_counted_with_its_reason(context: RunContext, asked: ModelServer) -> None:
    asked.say = lambda _body: "I would rather not."
    audit(context, share=0.2)
    rows = audits.collect(context.ledger, "run")
    assert list(rows["reason"]) == ["malformed", "malformed"]
    assert rows["repeated_ranking"].isna().all()
    assert audit_table(rows, candidates=3).rows[-1][3:7] == ("all", "0", "0", "2")


def test_the_cap_of_the_run_holds(context: RunContext, asked: ModelServer) -> None:
    with pytest.raises(BudgetReached, match=r"black_box\.budget_usd"):
        audit(context, budget_usd=0.0001, price=PRICE.model_dump())
    assert asked.asked == []


def test_nothing_of_the_run_changes(context: RunContext) -> None:
    before = rounds.recorded(context.ledger, "run", 0, STEPS)
    audit(context)
    assert rounds.recorded(context.ledger, "run", 0, STEPS) == before


def test_a_refold_is_asked_what_its_source_was_asked(context: RunContext, asked: ModelServer) -> None:
    without = context.settings.model_validate(
        merge(context.settings.model_dump(mode="json"), {"method": {"rewrite": "off"}})
    )
    refold = replace(context, settings=without, source=context)
    audit(replace(refold, source=refold), share=0.1)
    (body,) = asked.asked
    assert parse_ranking_prompt(body["messages"][-1]["content"]).rewrite


def test_who_served_an_answer_and_when_is_read_from_the_answer(context: RunContext, asked: ModelServer) -> None:
    asked.fingerprint = "fp_1"
    audit(context, share=0.1)
    asked.fingerprint = None
    audit(context, share=0.2)
    rows = audits.collect(context.ledger, "run")
    assert sorted(rows["repeated_fingerprint"].fillna("none")) == ["fp_1", "none"]
    assert served_models(rows) == ["not named → served", "not named → served fp_1"]
    today = f"{rows['repeated_at'].max():%Y-%m}"
    for line in audit_table(rows, candidates=3).rows:
        assert (line[1], line[2][:7]) == ("–", today)


@pytest.mark.parametrize(
    ("changes", "served"),
    [
        pytest.param({}, "m-0613", id="the same"),
        pytest.param({"repeated_model": "m-1106"}, "m-0613 → m-1106", id="another name"),
        pytest.param({"repeated_model": None}, "m-0613 → not named", id="no name"),
        pytest.param({"repeated_fingerprint": "fp_2"}, "m-0613 → m-0613 fp_2", id="another fingerprint"),
    ],
)
def test_answers_of_other_served_models_are_told_apart(changes: dict[str, Any], served: str) -> None:
    row = {
        "subset": "helpful-base",
        "prompt_id": "p",
        "recorded_ranking": [0, 1],
        "repeated_ranking": [0, 1],
        "recorded_permutation": [0, 1],
        "repeated_permutation": [1, 0],
        "lengths": [1, 2],
        "same_as": [0, 1],
        "recorded_model": "m-0613",
        "recorded_fingerprint": None,
        "recorded_at": datetime(2026, 3, 14, 23, tzinfo=UTC),
        "repeated_model": "m-0613",
        "repeated_fingerprint": None,
        "repeated_at": datetime(2026, 5, 1, tzinfo=UTC),
    }
    rows = pd.DataFrame([row, {**row, "recorded_at": datetime(2026, 3, 16, tzinfo=UTC)}, {**row, **changes}])
    assert served_models(rows) == list(dict.fromkeys(["m-0613", served]))
    table = audit_table(rows, 2).rows
    dates = ("2026-03-14 to 2026-03-16", "2026-05-01")
    n = "2" if changes else "3"
    assert [line[:6] for line in table[:2]] == [
        ("m-0613", *dates, "helpful-base", n, n),
        ("m-0613", *dates, "all", n, n),
    ]
    assert {line[0] for line in table} == {"m-0613", served}


def test_the_other_order_is_seeded_and_never_the_recorded_one() -> None:
    orders = {other_order((0, 1), step) for step in range(20)}
    assert orders == {(1, 0)}
    assert other_order((2, 0, 1), 5) == other_order((2, 0, 1), 5)
    assert choose([], 0.5, 0) == []
