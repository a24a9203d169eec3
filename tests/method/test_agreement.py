"""The agreement of two rankings, against hand-worked examples and brute force."""

from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclealign.method.agreement import agreement


def best_common_subsequence(black_box: tuple[int, ...], white_box: tuple[int, ...]) -> tuple[int, ...]:
    """The definition, by trying all subsequences: longest first, then smallest black-box ranks first."""
    for length in range(len(black_box), 0, -1):
        for members in combinations(black_box, length):  # in lexicographic order of black-box ranks
            if tuple(sorted(members, key=white_box.index)) == members:
                return members
    return ()


def test_agreement_prefers_the_black_box_when_lengths_tie() -> None:
    """Of length 2 are [1,2], [1,0], [3,2], [3,0], of black-box ranks 02, 03, 12, 13; none is longer."""
    assert agreement([1, 3, 2, 0], [3, 1, 0, 2]) == (1, 2)
    assert agreement((2, 0, 1), (1, 0, 2)) == (2,)


def test_a_longer_agreement_wins_over_a_better_ranked_one() -> None:
    """The black box's favourite 0 stands last in the white box's ranking; 1, 2, 3 agree without it."""
    assert agreement((0, 1, 2, 3), (1, 2, 3, 0)) == (1, 2, 3)
    assert agreement((2, 0, 1), (2, 0, 1)) == (2, 0, 1)


@pytest.mark.parametrize("n", range(6))
def test_agreement_is_the_definition_for_all_pairs_of_rankings(n: int) -> None:
    everything = list(permutations(range(n)))
    for black_box in everything:
        for white_box in everything:
            assert agreement(black_box, white_box) == best_common_subsequence(black_box, white_box)


@given(st.permutations(range(9)), st.permutations(range(9)))
def test_agreement_is_the_definition_for_nine_candidates(black_box: list[int], white_box: list[int]) -> None:
    expected = best_common_subsequence(tuple(black_box), tuple(white_box))
    assert agreement(black_box, white_box) == expected


@pytest.mark.parametrize(
    ("black_box", "white_box"),
    [((0, 1), (0, 2)), ((0, 1), (0, 1, 2)), ((0, 0), (0, 0))],
    ids=["other ids", "other length", "repeated"],
)
def test_rankings_of_different_candidates_are_refused(black_box: tuple[int, ...], white_box: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="same ids"):
        agreement(black_box, white_box)
