"""Agreement of those who judge the same things, corrected for what chance alone would bring.

Cohen's kappa for two raters, Fleiss' for more; 1 is full agreement, 0 what chance brings, below 0 less than that.
Intervals resample the items that were rated (percentile bootstrap). Leaves out weights for near misses: whoever
calls a win a tie disagrees as much as whoever calls it a loss. Paper: Section 4.2, Table 3.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

Ratings = Mapping[str, Mapping[str, str]]
"""For each item, the category that each rater gave it; not every rater rates every item."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far raters agree. Without a second item `low` and `high` are NaN; so is all where one category is all."""

    measure: str
    """Cohen's kappa (two raters) or Fleiss' (more)."""
    raters: int
    items: int
    """Those that at least two of them rated."""
    observed: float
    """The share of pairs of ratings of one item that are equal."""
    kappa: float
    low: float
    high: float


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float:
    """(p_o - p_e) / (1 - p_e) of two raters' categories, one pair per item; NaN where p_e is 1.

    p_o is the share of equal pairs; p_e is what it would be if each rater drew from their own frequencies.

    Raises:
        ValueError: no pairs.
    """
    codes = _codes(category for pair in pairs for category in pair)
    return _cohen(np.array([[codes[one], codes[other]] for one, other in pairs]).reshape(-1, 2))


def fleiss_kappa(counts: ArrayLike) -> float:
    """(P - P_e) / (1 - P_e) of several raters, from how many of them put an item into a category.

    P is the mean over items of the share of equal pairs of ratings; P_e the sum of the squared shares of the
    categories over all ratings. Items may have different numbers of ratings, at least two each.

    Args:
        counts: Items by categories.

    Raises:
        ValueError: no items, or one that fewer than two rated.
    """
    table = np.asarray(counts, dtype=float)
    if table.ndim != 2 or not len(table) or table.sum(axis=1).min() < 2:
        raise ValueError("Found an item with fewer than two ratings, or no items; expected two or more for each.")
    return _fleiss(table)


def agreement(ratings: Ratings, resamples: int = 2000, seed: int = 0, level: float = 0.95) -> Agreement | None:
    """How far all raters agree; None where no item has two ratings.

    Items that a single rater rated are left out. Two raters in all: Cohen's kappa; more: Fleiss'.
    """
    shared = {item: given for item, given in ratings.items() if len(given) > 1}
    raters = sorted({rater for given in shared.values() for rater in given})
    if not shared:
        return None
    codes = _codes(category for given in shared.values() for category in given.values())
    table = np.zeros((len(shared), len(codes)))
    for row, given in enumerate(shared.values()):
        for category in given.values():
            table[row, codes[category]] += 1
    if len(raters) == 2:
        rows = np.array([[codes[given[rater]] for rater in raters] for given in shared.values()])
        kappa, low, high = _with_interval(rows, _cohen, resamples, seed, level)
    else:
        kappa, low, high = _with_interval(table, _fleiss, resamples, seed, level)
    measure = "Cohen's kappa" if len(raters) == 2 else "Fleiss' kappa"
    return Agreement(measure, len(raters), len(shared), float(_equal_pairs(table).mean()), kappa, low, high)


def majority(categories: Iterable[str], undecided: str) -> str:
    """The category that most raters gave, or `undecided` where no single one leads."""
    ranked = Counter(categories).most_common(2)
    leads = len(ranked) == 1 or ranked[0][1] > ranked[1][1]
    return ranked[0][0] if leads else undecided


def _codes(categories: Iterable[str]) -> dict[str, int]:
    return {category: code for code, category in enumerate(sorted(set(categories)))}


def _cohen(rows: np.ndarray) -> float:
    """From the two raters' codes, one row per item."""
    if not len(rows):
        raise ValueError("Found no pairs of ratings, expected at least one.")
    categories = int(rows.max()) + 1
    table = np.bincount(rows[:, 0] * categories + rows[:, 1], minlength=categories**2).reshape(categories, -1)
    shares = table / len(rows)
    return _corrected(float(np.trace(shares)), float(shares.sum(axis=1) @ shares.sum(axis=0)))


def _fleiss(table: np.ndarray) -> float:
    shares = table.sum(axis=0) / table.sum()
    return _corrected(float(_equal_pairs(table).mean()), float(shares @ shares))


def _equal_pairs(table: np.ndarray) -> np.ndarray:
    """For each item, the share of pairs of its ratings that are equal."""
    given = table.sum(axis=1)
    found: np.ndarray = (table * (table - 1)).sum(axis=1) / (given * (given - 1))
    return found


def _corrected(observed: float, by_chance: float) -> float:
    return float("nan") if np.isclose(by_chance, 1) else (observed - by_chance) / (1 - by_chance)


def _with_interval(
    rows: np.ndarray, statistic: Callable[[np.ndarray], float], resamples: int, seed: int, level: float
) -> tuple[float, float, float]:
    """The statistic of all items and its bounds when items are drawn with replacement; NaN draws are left out."""
    found = statistic(rows)
    generator = np.random.default_rng(seed)
    draws = (generator.integers(len(rows), size=len(rows)) for _ in range(resamples if len(rows) > 1 else 0))
    values = [value for value in (statistic(rows[draw]) for draw in draws) if not np.isnan(value)]
    if not values or np.isnan(found):
        return found, float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return found, float(low), float(high)
