"""Means with their uncertainty, comparisons, and figures of what texts look like.

Prompts are the unit of chance: several values of one prompt (samples, seeds) are not independent, so
intervals resample prompts, never rows. Leaves out: collecting the values (`sql/`) and showing them (the
report).
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

T = TypeVar("T", bound=Hashable)
DRAWS_AT_ONCE = 1 << 16
"""Clusters drawn in one go when means are resampled: half a megabyte, which stays in the processor's cache."""
# fmt: off
_T_975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)
# fmt: on
"""97.5% quantiles of Student's t with 1, 2, … degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, its bootstrap interval, and the number of values behind it."""

    mean: float
    low: float
    high: float
    n: int


def bootstrap_interval(
    values: Sequence[float],
    clusters: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The mean of all values and its percentile bootstrap interval over clusters.

    Args:
        values: One figure each, for example the reward of a generation.
        clusters: The prompt id of each value; None: every value has a prompt of its own.
        resamples: How often as many prompts as there are get drawn with replacement, with all their values.
        seed: The same seed gives the same interval.
        level: The share of resampled means inside the interval.

    Returns:
        With a single prompt `low` and `high` are NaN: one prompt says nothing about chance.

    Raises:
        ValueError: no values, or not as many clusters as values.
    """
    if not len(values):
        raise ValueError("Found no values, expected at least one to take the mean of.")
    if clusters is not None and len(clusters) != len(values):
        raise ValueError(f"Found {len(clusters)} clusters for {len(values)} values, expected one for each.")
    numbers = np.asarray(values, dtype=float)
    of_value = np.arange(len(numbers)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    sums, sizes = np.bincount(of_value, weights=numbers), np.bincount(of_value)
    order = np.lexsort((sums, sizes))  # the same values in another order have the same interval
    low, high = _percentile_bounds(sums[order], sizes[order], resamples, seed, level)
    return Interval(float(numbers.mean()), low, high, len(numbers))


def _percentile_bounds(
    sums: np.ndarray, sizes: np.ndarray, resamples: int, seed: int, level: float
) -> tuple[float, float]:
    """Bounds of the mean of all values when clusters of these sums and sizes are drawn with replacement."""
    if len(sums) < 2:
        return float("nan"), float("nan")
    means = np.concatenate(list(_resampled_means(sums, sizes, resamples, seed)))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled_means(sums: np.ndarray, sizes: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """One mean per resample, a block of resamples at a time; the size of a block changes no figure."""
    generator, clusters = np.random.default_rng(seed), len(sums)
    block = max(1, DRAWS_AT_ONCE // clusters)
    for first in range(0, resamples, block):
        draws = generator.integers(clusters, size=(min(block, resamples - first), clusters))
        yield sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)


def seed_interval(values: Sequence[float]) -> Interval:
    """The mean over a few independent runs (seeds) and its 95% interval by Student's t.

    A bootstrap of five values is too narrow: it cannot draw values that they do not have.

    Returns:
        With a single run `low` and `high` are NaN.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("Found no values, expected at least one to take the mean of.")
    numbers = np.asarray(values, dtype=float)
    if len(numbers) < 2:
        return Interval(float(numbers[0]), float("nan"), float("nan"), 1)
    reach = _t_quantile(len(numbers) - 1) * float(numbers.std(ddof=1)) / len(numbers) ** 0.5
    return Interval(float(numbers.mean()), float(numbers.mean()) - reach, float(numbers.mean()) + reach, len(numbers))


def _t_quantile(freedom: int) -> float:
    """The 97.5% quantile of Student's t; beyond the table by its expansion in 1/freedom, good to 0.0001."""
    if freedom <= len(_T_975):
        return _T_975[freedom - 1]
    return 1.959964 + 2.372271 / freedom + 2.822502 / freedom**2


def differences_by_prompt(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """After minus before for each prompt id, in the order of the ids.

    Raises:
        ValueError: the two sides do not hold the same prompts; a comparison leaves none out.
    """
    if before.keys() != after.keys():
        raise ValueError(
            f"Found {len(before.keys() - after.keys())} prompts only before and "
            f"{len(after.keys() - before.keys())} only after, expected the same prompts on both sides."
        )
    return {prompt: after[prompt] - before[prompt] for prompt in sorted(before)}


def paired_difference(
    before: Mapping[str, float], after: Mapping[str, float], resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """The mean of after minus before over prompts, with its bootstrap interval over prompts.

    Raises:
        ValueError: no prompts, or not the same on both sides.
    """
    differences = list(differences_by_prompt(before, after).values())
    return bootstrap_interval(differences, resamples=resamples, seed=seed, level=level)


def sigmoid_100(scores: ArrayLike) -> np.ndarray:
    """100 · sigmoid of each score, in its place: the unit of the paper's Table 1 (PRO's convention)."""
    # sigmoid(x) = (1 + tanh(x/2)) / 2, which cannot overflow
    return np.asarray(50 * (1 + np.tanh(np.asarray(scores, dtype=float) / 2)))


def correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's correlation; NaN where one side is constant or there are fewer than two values.

    Raises:
        ValueError: not as many values on both sides.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"Found {first.size} and {second.size} values, expected as many on both sides.")
    if not first.size or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def distinct_n(texts: Iterable[str], n: int) -> float:
    """Of all n-grams of words in the texts, the share that is different (distinct-n); 0 where there are none.

    Words are what white space separates, in lower case. The figure falls as texts are added: compare equal
    numbers.
    """
    grams = [gram for text in texts for gram in _ngrams(text.lower().split(), n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repeated_ngram_share(tokens: Sequence[Hashable], n: int = 4) -> float:
    """The share of a response's n-grams of tokens that occurred in it before; 0 where there are none."""
    grams = list(_ngrams(tokens, n))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _ngrams(items: Sequence[T], n: int) -> Iterator[tuple[T, ...]]:
    return (tuple(items[start : start + n]) for start in range(len(items) - n + 1))
