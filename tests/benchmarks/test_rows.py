"""The arithmetic of a row, and of taking times side by side."""

import pytest

from benchmarks.measuring import seconds, side_by_side
from benchmarks.rows import Bar, Row, at_least, at_most


def test_a_row_is_the_median_of_its_repeats_between_the_lowest_and_the_highest() -> None:
    row = Row("a claim", at_least(2.0), (4.0, 1.0, 3.0, 2.5))
    assert (row.low, row.ratio, row.high) == (1.0, 2.75, 4.0)


@pytest.mark.parametrize(
    ("bar", "figure", "cleared"),
    [
        pytest.param(at_least(2.0), 1.9, False, id="too small"),
        pytest.param(at_least(2.0), 2.0, True, id="exactly large enough"),
        pytest.param(at_most(0.1), 0.1, True, id="exactly small enough"),
        pytest.param(at_most(0.1), 0.11, False, id="too large"),
        pytest.param(at_most(0.1), -0.02, True, id="a cost below zero is noise, and clears"),
    ],
)
def test_a_bar_is_cleared_on_its_own_side(bar: Bar, figure: float, cleared: bool) -> None:
    assert bar.cleared_by(figure) is cleared
    assert Row("a claim", bar, (figure,)).missed is not cleared


def test_the_median_decides_and_not_the_worst_repeat() -> None:
    assert not Row("a claim", at_most(0.1), (0.05, 0.06, 0.9)).missed


def test_what_was_not_measured_is_null_and_misses_nothing() -> None:
    row = Row("a claim", at_least(2.0), note="needs a GPU")
    assert not row.missed
    assert row.as_dict() == {
        "name": "a claim",
        "ratio": None,
        "at_least": 2.0,
        "low": None,
        "high": None,
        "repeats": 0,
        "note": "needs a GPU",
    }


def test_a_measured_row_says_its_unit_and_its_only_bar() -> None:
    row = Row("a claim", at_most(40.0), (31.23456, 29.98765, 33.0), unit="ms")
    assert row.as_dict() == {
        "name": "a claim",
        "ratio": 31.23,
        "at_most": 40.0,
        "low": 29.99,
        "high": 33.0,
        "repeats": 3,
        "unit": "ms",
    }


def test_two_sides_alternate_and_take_turns_in_beginning() -> None:
    order: list[str] = []

    def timed(side: str, result: float) -> float:
        order.append(side)
        return result

    pairs = side_by_side(lambda: timed("ours", 1.0), lambda: timed("peer", 2.0), repeats=3)
    assert pairs == [(1.0, 2.0)] * 3
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]


def test_seconds_are_those_of_the_work() -> None:
    done: list[int] = []
    assert seconds(lambda: done.append(1)) >= 0.0
    assert done == [1]
