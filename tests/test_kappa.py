"""Agreement of raters: textbook examples worked by hand, and what the figures must do at their ends."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclealign.kappa import agreement, cohen_kappa, fleiss_kappa, majority

PROPOSALS = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
"""Two readers of fifty proposals."""
FLEISS_1971 = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
"""Ten subjects, fourteen raters, five categories."""


def test_cohens_kappa_of_two_readers() -> None:
    """p_o = 35/50 = 0.7; yes: 0.5·0.6, no: 0.5·0.4, p_e = 0.5; kappa = 0.2/0.5 = 0.4."""
    assert cohen_kappa(PROPOSALS) == pytest.approx(0.4)


def test_cohens_kappa_tells_raters_of_equal_observed_agreement_apart() -> None:
    """Both observe 0.6. 45, 15, 25, 15: p_e = 0.54, kappa 0.1304; 25, 35, 5, 35: p_e = 0.46, kappa 0.2593."""
    one = [("a", "a")] * 45 + [("a", "b")] * 15 + [("b", "a")] * 25 + [("b", "b")] * 15
    other = [("a", "a")] * 25 + [("a", "b")] * 35 + [("b", "a")] * 5 + [("b", "b")] * 35
    assert cohen_kappa(one) == pytest.approx(0.1304, abs=1e-4)
    assert cohen_kappa(other) == pytest.approx(0.2593, abs=1e-4)


def test_fleiss_kappa_of_the_textbook_example() -> None:
    """P = 0.378, P_e = 0.213: (0.378 - 0.213) / (1 - 0.213) = 0.210."""
    assert fleiss_kappa(FLEISS_1971) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_takes_items_with_different_numbers_of_ratings() -> None:
    """Items aa, ab, bbb: P = (1 + 0 + 1)/3 = 2/3; a: 3/7, b: 4/7, P_e = 25/49; (2/3 - 25/49)/(24/49) = 23/72."""
    assert fleiss_kappa([[2, 0], [1, 1], [0, 3]]) == pytest.approx(23 / 72)


def test_an_item_with_a_single_rating_agrees_with_nobody() -> None:
    with pytest.raises(ValueError, match="fewer than two"):
        fleiss_kappa([[2, 0], [1, 0]])
    found = agreement({"x": {"Ann": "win", "Ben": "win"}, "y": {"Ann": "lose"}})
    assert found is not None
    assert found.items == 1
    assert agreement({"x": {"Ann": "win"}, "y": {"Ben": "win"}}) is None


def test_two_raters_are_measured_by_cohen_and_three_by_fleiss() -> None:
    two = {str(number): {"Ann": one, "Ben": other} for number, (one, other) in enumerate(PROPOSALS)}
    found = agreement(two)
    assert found is not None
    assert (found.measure, found.raters, found.items) == ("Cohen's kappa", 2, 50)
    assert (found.kappa, found.observed) == (pytest.approx(0.4), pytest.approx(0.7))
    found = agreement({**two, "0": {**two["0"], "Eve": "no"}})
    assert found is not None
    assert (found.measure, found.raters) == ("Fleiss' kappa", 3)


def test_the_interval_holds_the_figure_and_reproduces() -> None:
    two = {str(number): {"Ann": one, "Ben": other} for number, (one, other) in enumerate(PROPOSALS)}
    found = agreement(two)
    assert found is not None
    assert found == agreement(two)
    assert 0.1 < found.low < 0.4 < found.high < 0.7  # the large-sample standard error is 0.128


def test_where_one_category_is_all_there_is_nothing_to_correct() -> None:
    found = agreement({item: {"Ann": "tie", "Ben": "tie"} for item in "abc"})
    assert found is not None
    assert found.observed == 1
    assert math.isnan(found.kappa)


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=3, max_size=3), min_size=2, max_size=20))
def test_fleiss_kappa_is_one_where_all_agree_and_never_above(items: list[list[str]]) -> None:
    counts = [[item.count(category) for category in "abc"] for item in items]
    kappa = fleiss_kappa(counts)
    assert math.isnan(kappa) or kappa <= 1 + 1e-12
    alike = [[3 if category == item[0] else 0 for category in "abc"] for item in items]
    assert math.isnan(fleiss_kappa(alike)) or fleiss_kappa(alike) == pytest.approx(1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30))
def test_cohens_kappa_does_not_depend_on_who_is_first(pairs: list[tuple[str, str]]) -> None:
    turned = cohen_kappa([(other, one) for one, other in pairs])
    assert cohen_kappa(pairs) == pytest.approx(turned, nan_ok=True)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (["win"], "win"),
        (["win", "win", "tie"], "win"),
        (["win", "lose"], "tie"),
        (["win", "win", "lose", "lose"], "tie"),
    ],
)
def test_a_majority_needs_a_lead(given_: list[str], expected: str) -> None:
    assert majority(given_, "tie") == expected
