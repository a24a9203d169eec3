"""Recorded rankings asked again in another order, over real HTTP: the same question otherwise, once, and readable."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from cyclealign.errors import BudgetReached
from cyclealign.method.demonstrations import STATIC_DEMONSTRATION
from cyclealign.method.ranking_prompt import parse_ranking_prompt
from cyclealign.profiles import merge, resolve
from cyclealign.report.companions import audit_tables
from storage import exhibits, rounds, runs, samples
from storage.ledger import Ledger
from storage.rounds import StaticDemonstration
from tasks.asking.protocol import Direct
from tasks.asking.questions import Asker
from tasks.context import RunContext
from tasks.evaluation.audit import audit_rankings, choose, other_order
from tests.black_box.model_server import ModelServer
from tests.storage.values import new_run, pair, ranked, sampled
from tests.tasks.asked import QUICK, account, rows

STEPS = 10


@pytest.fixture
def context(ledger: Ledger, server: ModelServer) -> RunContext:
    """A run of ten steps whose black box ranked 0, 2, 1 each time; asked again, it ranks 0, 1, 2."""
    runs.register(ledger, new_run("run"))
    pairs = tuple(pair(f"question {step}") for step in range(STEPS))
    samples.put(ledger, "s", "training", "d", pairs)
    ledger.record(StaticDemonstration("run", STATIC_DEMONSTRATION))
    ids = [one.prompt.prompt_id for one in pairs]
    wave = [sampled(step, run_name="run") for step in range(STEPS)]
    ledger.record(*(replace(one, prompt_id=ids[one.step]) for one in wave))
    ledger.record(*(replace(ranked(step, run_name="run"), demonstrations_shown=(0,)) for step in range(STEPS)))
    black_box = {"base_url": server.url, "model": "some-model", "asks": 2}
    mapping = {"data": {"source": "folder"}, "white_box": {"model": "m"}, "black_box": black_box}
    return RunContext(ledger.home, "run", resolve("p", mapping, {}), ledger)


def audit(context: RunContext, server: ModelServer, share: float = 1.0, seed: int = 0, **black_box: Any) -> int:
    with Asker(Direct(account(context.ledger, server, **black_box), QUICK)) as asker:
        asked: int = audit_rankings.fn(context, asker, share, seed)
    return asked


def test_the_question_is_the_recorded_one_in_another_order(context: RunContext, server: ModelServer) -> None:
    assert audit(context, server) == STEPS
    for body in server.requests:
        shown = parse_ranking_prompt(body["messages"][-1]["content"])
        assert shown.demonstrations == (STATIC_DEMONSTRATION,)
        ids = [int(text.split()[1]) for text in shown.responses]
        assert sorted(ids) == [0, 1, 2]
        assert ids != [2, 0, 1]  # the recorded permutation


def test_answers_are_mapped_back_to_candidates_and_nothing_of_the_run_changes(
    context: RunContext, server: ModelServer
) -> None:
    before = rounds.recorded(context.ledger, "run", 0, STEPS)
    audit(context, server)
    found = exhibits.read_exhibit(context.ledger, "run-audit", ["run"], {}).frame
    assert [tuple(row) for row in found["repeated_ranking"]] == [(0, 1, 2)] * STEPS
    assert [tuple(row) for row in found["recorded_ranking"]] == [(0, 2, 1)] * STEPS
    assert set(found["repeated_model"]) == {"served-model"}
    assert found["reason"].isna().all()
    assert rounds.recorded(context.ledger, "run", 0, STEPS) == before


def test_an_audit_is_paid_once_and_a_larger_share_holds_the_smaller(context: RunContext, server: ModelServer) -> None:
    assert [audit(context, server, share) for share in (0.25, 0.25, 0.5)] == [3, 0, 2]
    assert audit(context, server, share=0.25, seed=1) == 3
    assert len(server.requests) == 8
    assert rows(context.ledger, "select distinct purpose from api_calls") == [{"purpose": "audit"}]


def test_what_cannot_be_read_is_counted_with_its_reason(context: RunContext, server: ModelServer) -> None:
    server.say = lambda _body: "I would rather not."
    audit(context, server, share=0.2)
    found = exhibits.read_exhibit(context.ledger, "run-audit", ["run"], {}).frame
    assert list(found["reason"]) == ["malformed", "malformed"]
    assert found["repeated_ranking"].isna().all()
    assert audit_tables(found)[0].rows[-1][3:7] == ("all", "0", "0", "2")


def test_the_cap_of_the_run_holds(context: RunContext, server: ModelServer) -> None:
    with pytest.raises(BudgetReached, match=r"black_box\.budget_usd"):
        audit(context, server, budget_usd=0.0001)
    assert server.requests == []


def test_a_refold_is_asked_what_its_source_was_asked(context: RunContext, server: ModelServer) -> None:
    without = context.settings.model_validate(
        merge(context.settings.model_dump(mode="json"), {"method": {"rewrite": "off"}})
    )
    refold = replace(context, settings=without, source=context)
    audit(replace(refold, source=refold), server, share=0.1)
    (body,) = server.requests
    assert parse_ranking_prompt(body["messages"][-1]["content"]).rewrite


def test_the_ledger_knows_which_served_model_gave_an_answer_and_when(context: RunContext, server: ModelServer) -> None:
    server.named = {"system_fingerprint": "fp_1"}
    audit(context, server, share=0.1)
    server.named = {}
    audit(context, server, share=0.2)
    found = exhibits.read_exhibit(context.ledger, "run-audit", ["run"], {}).frame
    assert sorted(found["repeated_fingerprint"].fillna("none")) == ["fp_1", "none"]
    lines = audit_tables(found)[0].rows
    assert sorted({line[0] for line in lines}) == ["not named → served-model", "not named → served-model fp_1"]
    today = f"{found['repeated_at'].max():%Y-%m}"
    for line in lines:
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
    (found,) = audit_tables(rows)
    assert ("more than one served model answered" in found.caption) == bool(changes)
    table = found.rows
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
