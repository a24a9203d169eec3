"""Verdicts are kept per order; what both orders come to follows the rule of the method."""

from typing import Any

import pytest

from storage import comparisons
from storage.comparisons import Comparison, Verdict
from storage.ledger import Ledger


def comparison(first: str, second: str, verdict: Verdict, judge: str = "judge") -> Comparison:
    return Comparison(first, second, judge, "model", verdict, None, "key")


def test_verdicts_are_found_again_and_only_missing_ones_are_replaced(ledger: Ledger) -> None:
    kept, missing = comparison("a", "b", "first"), comparison("b", "a", "missing")
    ledger.record(kept, missing)
    ledger.record()
    ledger.record(comparison("a", "b", "tie"), comparison("b", "a", "second"))
    ids = [kept.comparison_id, missing.comparison_id, "nobody's"]
    assert comparisons.found(ledger, ids) == {
        kept.comparison_id: kept,
        missing.comparison_id: comparison("b", "a", "second"),
    }


def test_order_and_judge_are_part_of_the_identity() -> None:
    ids = {one.comparison_id for one in (comparison("a", "b", "tie"), comparison("b", "a", "tie"))}
    assert len(ids | {comparison("a", "b", "tie", "another").comparison_id}) == 3


@pytest.mark.parametrize(
    ("a_first", "b_first", "outcome", "inconsistent"),
    [
        pytest.param("first", "second", "win", False, id="a both times"),
        pytest.param("second", "first", "lose", False, id="b both times"),
        pytest.param("tie", "tie", "tie", False, id="tie both times"),
        pytest.param("first", "first", "tie", True, id="always the first"),
        pytest.param("second", "second", "tie", True, id="always the second"),
        pytest.param("first", "tie", "tie", True, id="a win and a tie"),
        pytest.param("first", "missing", "missing", False, id="one missing"),
        pytest.param("missing", "missing", "missing", False, id="both missing"),
        pytest.param("second", None, "lose", False, id="asked once"),
    ],
)
def test_two_orders_come_to_one_outcome(
    ledger: Ledger, a_first: Verdict, b_first: Verdict | None, outcome: str, inconsistent: bool
) -> None:
    asked = [comparison("a", "b", a_first)] + ([comparison("b", "a", b_first)] if b_first else [])
    ledger.record(*asked)
    question = "select * from comparison_outcomes where generation_id = 'a' and against_id = 'b'"
    frame = ledger.query(question)
    row: dict[str, Any] = {str(key): value for key, value in frame.iloc[0].items()}
    assert (row["outcome"], bool(row["inconsistent"]), row["orders"]) == (outcome, inconsistent, len(asked))
