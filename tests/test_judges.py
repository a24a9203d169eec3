"""Agreement of raters by textbook examples, and what sways a judge, by hand."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclealign.judges import Agreement, Leanings, agreement, audit_leanings, majority, verdict_leanings

PROPOSALS = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
"""Two readers of fifty proposals: p_o = 35/50; p_e = 0.5·0.6 + 0.5·0.4 = 0.5; kappa = 0.2/0.5 = 0.4."""
FLEISS_1971 = [
    *("eeeeeeeeeeeeee", "bbccccccddddee", "cccdddddeeeeee", "bbbcccccccccdd", "aabbccccccccde"),
    *("aaaaaaabbbbbbb", "aaabbccccccddd", "aabbbbbcccddee", "aaaaaabbbbbccd", "bbccdddeeeeeee"),
]
"""Ten subjects, fourteen raters, five categories."""


def rated(items: list[Any]) -> Agreement:
    """Each item holds the categories that raters 0, 1, … gave it."""
    given_ = {str(place): {str(rater): one for rater, one in enumerate(item)} for place, item in enumerate(items)}
    found = agreement(given_)
    assert found is not None
    return found


def kappa(items: list[Any]) -> float:
    return rated(items).kappa.mean


@pytest.mark.parametrize(
    ("cells", "expected"), [((20, 5, 10, 15), 0.4), ((45, 15, 25, 15), 0.1304), ((25, 35, 5, 35), 0.2593)]
)
def test_cohens_kappa_tells_raters_of_equal_observed_agreement_apart(cells: tuple[int, ...], expected: float) -> None:
    """The last two observe 0.6, with p_e = 0.54 and 0.46."""
    pairs = [pair for pair, number in zip(("aa", "ab", "ba", "bb"), cells, strict=True) for _ in range(number)]
    assert kappa(pairs) == pytest.approx(expected, abs=1e-4)


def test_fleiss_kappa_of_the_textbook_example() -> None:
    """P = 0.378, P_e = 0.213: (0.378 - 0.213) / (1 - 0.213) = 0.210."""
    assert kappa(FLEISS_1971) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_takes_items_with_different_numbers_of_ratings() -> None:
    """Items aa, ab, bbb: P = (1 + 0 + 1)/3 = 2/3; a: 3/7, b: 4/7, P_e = 25/49; (2/3 - 25/49)/(24/49) = 23/72."""
    assert kappa(["aa", "ab", "bbb"]) == pytest.approx(23 / 72)


def test_an_item_with_a_single_rating_is_left_out() -> None:
    assert rated(["aa", "b"]).kappa.n == 1
    assert agreement({"x": {"Ann": "win"}, "y": {"Ben": "win"}}) is None


def test_two_raters_are_measured_by_cohen_and_three_by_fleiss() -> None:
    two = rated(PROPOSALS)
    assert (two.measure, two.raters, two.observed, two.kappa.n) == ("Cohen's kappa", 2, pytest.approx(0.7), 50)
    three = rated([(*PROPOSALS[0], "no"), *PROPOSALS[1:]])
    assert (three.measure, three.raters) == ("Fleiss' kappa", 3)


def test_the_interval_holds_the_figure_and_reproduces() -> None:
    found = rated(PROPOSALS)
    assert found == rated(PROPOSALS)
    assert 0.1 < found.kappa.low < 0.4 < found.kappa.high < 0.7  # the large-sample standard error is 0.128


def test_where_one_category_is_all_there_is_nothing_to_correct() -> None:
    found = rated(["tt"] * 3)
    assert found.observed == 1
    assert math.isnan(found.kappa.mean)


@given(st.lists(st.text("abc", min_size=2, max_size=3), min_size=1, max_size=20))
def test_kappa_is_never_above_one_and_does_not_depend_on_who_is_first(items: list[str]) -> None:
    found = kappa(items)
    assert math.isnan(found) or found <= 1 + 1e-12
    if {len(item) for item in items} == {2}:
        assert kappa([item[::-1] for item in items]) == pytest.approx(found, nan_ok=True)


@pytest.mark.parametrize(
    ("ratings", "expected"), [("w", "w"), ("wwt", "w"), ("wl", "t"), ("wwll", "t")], ids=lambda text: text
)
def test_a_majority_needs_a_lead(ratings: str, expected: str) -> None:
    assert majority(ratings, "t") == expected


def verdict(prompt: str, word: str, first: int, second: int) -> dict[str, Any]:
    return {"prompt_id": prompt, "verdict": word, "first_length": first, "second_length": second}


def test_leanings_are_counted_over_verdicts_that_name_a_response() -> None:
    """Of 4 decided verdicts 3 went to the first shown; of the 3 with unequal lengths 1 went to the longer."""
    decided = [("p0", "first", 5, 9), ("p0", "first", 9, 5), ("p1", "first", 7, 7), ("p1", "second", 8, 2)]
    others = [("p2", "tie", 1, 9), ("p2", "missing", 1, 9)]
    found = verdict_leanings([verdict(*one) for one in (*decided, *others)])
    assert (found.n, found.decided, mean(found, "first")) == (6, 4, 0.75)
    assert (mean(found, "longer"), found.longer and found.longer.n) == (pytest.approx(1 / 3), 3)
    assert verdict_leanings([verdict(*others[0])]) == Leanings(1, 0, None, None)


def mean(found: Leanings, name: str) -> float:
    return float(getattr(found, name).mean)


def repeated(recorded: tuple[int, ...], again: tuple[int, ...], **changes: Any) -> dict[str, Any]:
    """Shown 0, 1, 2 and then 2, 1, 0; the first candidate is the longest."""
    orders = {"recorded_permutation": (0, 1, 2), "repeated_permutation": (2, 1, 0)}
    row = {"prompt_id": "p", "recorded_ranking": recorded, "repeated_ranking": again, "lengths": (30, 20, 10)}
    return {**row, **orders, "same_as": (0, 1, 2), **changes}


@pytest.mark.parametrize(
    ("recorded", "again", "expected"),
    [
        pytest.param((1, 0, 2), (1, 0, 2), {"tau": 1, "flips": 0, "first": 0}, id="heeds the texts alone"),
        pytest.param((0, 1, 2), (2, 1, 0), {"tau": -1, "flips": 1, "first": 1, "longer": 0.5}, id="copies the order"),
        pytest.param((0, 1, 2), (0, 2, 1), {"tau": pytest.approx(1 / 3), "flips": 0}, id="one of three pairs changed"),
        pytest.param((0, 1, 2), (0, 1, 2), {"longer": 1}, id="likes length"),
    ],
)
def test_a_judge_asked_again(recorded: tuple[int, ...], again: tuple[int, ...], expected: dict[str, Any]) -> None:
    found = audit_leanings([repeated(recorded, again)])
    assert {name: mean(found, name) for name in expected} == expected


def test_equal_texts_are_one_and_say_nothing_about_consistency() -> None:
    """Candidates 0 and 1 are the same text: an exchange of the two is no change."""
    found = audit_leanings([repeated((0, 1, 2), (1, 0, 2), same_as=(0, 0, 2), lengths=(5, 5, 5))])
    assert (mean(found, "tau"), mean(found, "flips"), found.longer) == (1, 0, None)
    nothing = audit_leanings([repeated((0, 1, 2), (2, 1, 0), same_as=(0, 0, 0))])
    assert (nothing.n, nothing.decided, nothing.tau, nothing.flips) == (1, 0, None, None)


def test_equal_texts_say_nothing_about_the_first_position() -> None:
    """The best text stands at two places in the first ranking, and alone at the first place in one of two answers."""
    identical = repeated((0, 1, 2), (2, 1, 0), same_as=(0, 0, 0))
    twice, once = (
        repeated(one, two, same_as=(0, 0, 2)) for one, two in (((0, 1, 2), (1, 0, 2)), ((2, 0, 1), (2, 0, 1)))
    )
    assert audit_leanings([identical]).first is None
    assert audit_leanings([twice]).first is None
    found = audit_leanings([identical, twice, once])
    assert (found.n, found.decided, mean(found, "first")) == (3, 2, 0.5)
    assert audit_leanings([]) == Leanings(0, 0, None, None)
