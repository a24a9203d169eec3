"""Rankings: making, shuffling, mapping back, comparing."""

import random
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclealign.method.rankings import (
    confidence_ranking,
    drop_repeated,
    kendall_tau,
    pairwise_accuracy,
    ranks,
    shuffled_order,
    to_candidates,
)


def test_the_most_confident_candidate_is_ranked_first_and_equal_ones_by_their_ids() -> None:
    assert confidence_ranking([-2.0, -0.5, -1.0]) == (1, 2, 0)
    assert confidence_ranking([-1.0, -0.5, -1.0, -0.5]) == (1, 3, 0, 2)
    assert confidence_ranking([float("-inf"), -9.0]) == (1, 0)
    with pytest.raises(ValueError, match="NaN"):
        confidence_ranking([-1.0, float("nan")])


def test_the_order_of_a_seed_never_changes_between_versions() -> None:
    assert shuffled_order(4, seed=7, shuffle=False) == (0, 1, 2, 3)
    assert shuffled_order(5, seed=0) == (2, 1, 0, 4, 3)


def test_every_order_is_about_equally_frequent_over_seeds() -> None:
    counts = Counter(shuffled_order(3, seed) for seed in range(6000))
    assert set(counts) == set(permutations(range(3)))
    assert all(850 < count < 1150 for count in counts.values())


def test_a_ranking_of_positions_becomes_one_of_candidates() -> None:
    """Shown: candidate 2, then 0, then 1. The answer prefers the last shown, then the first."""
    assert to_candidates([2, 0, 1], order=(2, 0, 1)) == (1, 2, 0)


@given(st.integers(1, 9), st.integers(0), st.randoms())
def test_what_is_shown_shuffled_is_found_again(n: int, seed: int, chance: random.Random) -> None:
    wanted = list(range(n))
    chance.shuffle(wanted)
    order = shuffled_order(n, seed)
    answered = [order.index(candidate) for candidate in wanted]
    assert to_candidates(answered, order) == tuple(wanted)


@pytest.mark.parametrize(
    ("answer", "order"),
    [((0, 0), (0, 1)), ((0,), (0, 1)), ((0, 2), (0, 1)), ((0, 1), (1, 1))],
    ids=["repeated", "missing", "unknown", "order broken"],
)
def test_only_permutations_are_mapped_back(answer: tuple[int, ...], order: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="exactly once"):
        to_candidates(answer, order)


@given(st.permutations(range(6)))
def test_ranks_undo_a_ranking(ranking: list[int]) -> None:
    assert ranks((2, 0, 1)) == (1, 2, 0)
    assert all(ranking[rank] == candidate for candidate, rank in enumerate(ranks(ranking)))
    with pytest.raises(ValueError, match=r"ids 0\.\.2"):
        ranks((0, 1, 3))


def test_pairwise_accuracy_leaves_out_equal_rewards() -> None:
    """Ranking 1, 0, 2 with rewards 0.5, 0.5, 0.9: of (1,0) equal, (1,2) wrong, (0,2) wrong."""
    assert pairwise_accuracy((1, 0, 2), (0.5, 0.5, 0.9)) == (0, 2)
    accuracy = pairwise_accuracy((2, 1, 0), (0.5, 0.5, 0.9))
    assert (accuracy.correct, accuracy.comparable) == (2, 2)


def test_kendall_tau_counts_pairs() -> None:
    """0,1,2 against 1,0,2: two pairs of three in the same order, so (2 - 1) / 3."""
    assert kendall_tau((0, 1, 2), (1, 0, 2)) == pytest.approx(1 / 3)
    assert kendall_tau((0, 1, 2), (0, 1, 2)) == 1
    assert kendall_tau((0, 1, 2), (2, 1, 0)) == -1


@given(st.permutations(range(5)), st.permutations(range(5)))
def test_kendall_tau_is_symmetric_and_bounded(a: list[int], b: list[int]) -> None:
    assert kendall_tau(a, b) == kendall_tau(b, a)
    assert -1 <= kendall_tau(a, b) <= 1


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [((0,), (0,), "at least two"), ((0, 1), (0, 2), "same ids"), ((0, 0), (0, 0), "exactly once")],
    ids=["too short", "other ids", "repeated"],
)
def test_kendall_tau_needs_two_rankings_of_the_same_ids(a: tuple[int, ...], b: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kendall_tau(a, b)


def test_of_identical_texts_only_the_best_ranked_stays() -> None:
    assert drop_repeated((2, 0, 1, 3), ["same", "other", "same", "third"]) == (2, 1, 3)
    assert drop_repeated((3, 1), ["a", "b", "c", "b"]) == (3,)
