"""Rankings: making them, shuffling what is shown, comparing two of them.

A ranking is a tuple of candidate ids, best first. Ranks are 0-based, 0 = best. Leaves out: the agreement of
two rankings (`agreement`) and the objectives (`objectives`).
"""

import math
import random
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple


class PairwiseAccuracy(NamedTuple):
    """How many pairs a ranking puts in the order of the rewards."""

    correct: int
    comparable: int
    """Pairs whose rewards differ."""


def check_permutation(ranking: Sequence[int], n: int) -> None:
    """Raise `ValueError` unless `ranking` holds each of 0..n-1 exactly once."""
    if sorted(ranking) != list(range(n)):
        raise ValueError(f"Found the ranking {list(ranking)}, expected each of the ids 0..{n - 1} exactly once.")


def confidence_ranking(confidences: Sequence[float]) -> tuple[int, ...]:
    """The white-box model's ranking: candidate ids by falling confidence, ties to the lower id.

    Paper: Section 2.2.

    Raises:
        ValueError: a confidence is NaN, which has no place in an order.
    """
    if any(math.isnan(confidence) for confidence in confidences):
        raise ValueError(f"Found the confidences {list(confidences)}, expected numbers; NaN cannot be ranked.")
    return tuple(sorted(range(len(confidences)), key=lambda candidate: -confidences[candidate]))


def shuffled_order(n: int, seed: int, shuffle: bool = True) -> tuple[int, ...]:
    """The order in which n candidates are shown: element i is the id of the candidate at position i.

    Every order is equally likely over seeds; the same seed gives the same order everywhere.
    """
    order = list(range(n))
    if shuffle:
        random.Random(seed).shuffle(order)
    return tuple(order)


def to_candidates(ranking_of_positions: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """The ranking in candidate ids of a ranking of shown positions; `order` is that of `shuffled_order`.

    Raises:
        ValueError: one of the two is not a permutation of the same length.
    """
    check_permutation(order, len(order))
    check_permutation(ranking_of_positions, len(order))
    return tuple(order[position] for position in ranking_of_positions)


def ranks(ranking: Sequence[int]) -> tuple[int, ...]:
    """The rank of each candidate: element i is the rank of id i, 0 = best.

    Raises:
        ValueError: the ranking is not a permutation.
    """
    check_permutation(ranking, len(ranking))
    rank_of = {candidate: rank for rank, candidate in enumerate(ranking)}
    return tuple(rank_of[candidate] for candidate in range(len(ranking)))


def pairwise_accuracy(ranking: Sequence[int], rewards: Sequence[float]) -> PairwiseAccuracy:
    """How well a ranking agrees with the candidates' rewards, pair by pair (paper: Figure 4).

    Pairs with equal rewards are left out of both counts. `rewards[i]` belongs to candidate i.

    Raises:
        ValueError: the ranking does not hold each rewarded candidate exactly once.
    """
    check_permutation(ranking, len(rewards))
    gaps = [rewards[better] - rewards[worse] for better, worse in combinations(ranking, 2)]
    return PairwiseAccuracy(sum(gap > 0 for gap in gaps), sum(gap != 0 for gap in gaps))


def kendall_tau(a: Sequence[int], b: Sequence[int]) -> float:
    """Kendall's tau of two rankings of the same ids: 1 when equal, -1 when reversed.

    Raises:
        ValueError: fewer than two ids, a repeated id, or different ids.
    """
    check_same_ids(a, b)
    if len(a) < 2:
        raise ValueError(f"Found {len(a)} ranked ids, expected at least two; tau compares pairs.")
    rank_in_b = {candidate: rank for rank, candidate in enumerate(b)}
    signs = [1 if rank_in_b[better] < rank_in_b[worse] else -1 for better, worse in combinations(a, 2)]
    return sum(signs) / len(signs)


def check_same_ids(a: Sequence[int], b: Sequence[int]) -> None:
    """Raise `ValueError` unless both rankings hold the same ids, each exactly once."""
    if len(set(a)) != len(a) or len(set(b)) != len(b) or set(a) != set(b):
        raise ValueError(f"Found the rankings {list(a)} and {list(b)}, expected the same ids, each exactly once.")


def drop_repeated(ranking: Sequence[int], texts: Sequence[str]) -> tuple[int, ...]:
    """The ranking without candidates whose text a better-ranked one has too; `texts[i]` is that of id i.

    An order between equal texts carries no preference. Agreements and preference orders may be filtered too:
    `ranking` need not name every text.
    """
    best_with_text: dict[str, int] = {}
    for candidate in ranking:
        best_with_text.setdefault(texts[candidate], candidate)
    return tuple(best_with_text.values())
