"""How far those who judge can be believed: raters among each other, and a judge with itself.

Raters of the same things agree by Cohen's kappa (two) or Fleiss' (more), corrected for what chance alone would bring:
1 is full agreement, 0 what chance brings. A judge asked again in another order should say the same (an audit), and
neither the order nor the length should sway it. Prompts are the unit of chance: intervals are percentile bootstraps
over them. Leaves out weights for near misses, asking (`tasks.evaluation`) and showing (`cyclealign.report`).

Paper: Section 4.2, Tables 2 and 3.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from cyclealign.method.rankings import kendall_tau
from cyclealign.statistics import Interval, bootstrap_interval

Ratings = Mapping[str, Mapping[str, str]]
"""For each item, the category that each rater gave it; not every rater rates every item."""
Row = Mapping[str, Any]
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far raters agree. Without a second item the bounds are NaN; so is all where one category is all."""

    measure: str
    """Cohen's kappa (two raters) or Fleiss' (more)."""
    raters: int
    observed: float
    """The share of pairs of ratings of one item that are equal."""
    kappa: Interval
    """Over the items that at least two of them rated."""


def agreement(ratings: Ratings) -> Agreement | None:
    """How far all raters agree; None where no item has two ratings.

    (p_o - p_e) / (1 - p_e), where p_o is the mean over items of the share of equal pairs of ratings, and p_e what it
    would be by chance: if two raters drew from their own frequencies (Cohen), or more of them from those of all
    (Fleiss). Items may have different numbers of ratings; those that a single rater rated are left out.
    """
    rated = [given for given in ratings.values() if len(given) > 1]
    if not rated:
        return None
    raters = sorted({rater for given in rated for rater in given})
    categories = sorted({category for given in rated for category in given.values()})
    votes = np.array([[[given.get(rater) == one for one in categories] for rater in raters] for given in rated], float)
    measure = "Cohen's kappa" if len(raters) == 2 else "Fleiss' kappa"
    return Agreement(measure, len(raters), _observed(votes), _kappa_interval(votes))


def _observed(votes: np.ndarray) -> float:
    """The mean over items of the share of equal pairs; votes are 1 or 0 by item, rater and category."""
    counts = votes.sum(axis=1)
    given = counts.sum(axis=1)
    return float(((counts * (counts - 1)).sum(axis=1) / (given * (given - 1))).mean())


def _kappa(votes: np.ndarray) -> float:
    if votes.shape[1] == 2:
        by_chance = float(np.prod(votes.mean(axis=0), axis=0).sum())
    else:
        shares = votes.sum(axis=(0, 1)) / votes.sum()
        by_chance = float(shares @ shares)
    return float("nan") if np.isclose(by_chance, 1) else (_observed(votes) - by_chance) / (1 - by_chance)


def _kappa_interval(votes: np.ndarray) -> Interval:
    """Of all items, with its bounds when items are drawn with replacement; NaN draws are left out."""
    kappa, size, generator = _kappa(votes), len(votes), np.random.default_rng(0)
    draws = (generator.integers(size, size=size) for _ in range(RESAMPLES if size > 1 else 0))
    values = [value for value in (_kappa(votes[draw]) for draw in draws) if not np.isnan(value)]
    if not values or np.isnan(kappa):
        return Interval(kappa, float("nan"), float("nan"), size)
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(kappa, float(low), float(high), size)


def majority(categories: Iterable[str], undecided: str) -> str:
    """The category that most raters gave, or `undecided` where no single one leads."""
    ranked = Counter(categories).most_common(2)
    leads = len(ranked) == 1 or ranked[0][1] > ranked[1][1]
    return ranked[0][0] if leads else undecided


@dataclass(frozen=True, slots=True)
class Leanings:
    """What a judge's answers have in common, apart from the texts; None where no answer says anything about it."""

    n: int
    """Answers that were read. `decided` of them say something about order: they name a better response, or rank at
    least two different texts."""
    decided: int
    first: Interval | None
    """Share whose best text was the one shown first; without a bias 1 / the number shown."""
    longer: Interval | None
    """Share of decisions between texts of unequal length that favour the longer one."""
    tau: Interval | None = None
    """Of rankings asked again, Kendall's tau with the recorded ones: 1 alike, 0 unrelated, -1 reversed."""
    flips: Interval | None = None
    """Share of rankings asked again whose best text is another one."""


def verdict_leanings(verdicts: Sequence[Row]) -> Leanings:
    """From rows of `sql/exhibits/table_2_verdicts.sql`; ties and missing verdicts say nothing."""
    decided = [row for row in verdicts if row["verdict"] in ("first", "second")]
    return Leanings(
        n=len(verdicts),
        decided=len(decided),
        first=_mean(decided, lambda row: [row["verdict"] == "first"]),
        longer=_mean(decided, _longer_won),
    )


def _longer_won(row: Row) -> Iterator[bool]:
    if row["first_length"] != row["second_length"]:
        yield (row["first_length"] > row["second_length"]) == (row["verdict"] == "first")


def audit_leanings(rankings: Sequence[Row]) -> Leanings:
    """From rows of `sql/exhibits/run_audit.sql` with both rankings: order, position and length.

    Candidates with the same text count as one, since an order between them says nothing; answers whose best text
    stood at several places say nothing of the place.
    """
    comparable = [row for row in rankings if len(set(row["same_as"])) > 1]
    return Leanings(
        n=len(rankings),
        decided=len(comparable),
        first=_mean(comparable, _first_won),
        longer=_mean(rankings, _longer_above),
        tau=_mean(comparable, lambda row: [kendall_tau(*_distinct(row))]),
        flips=_mean(comparable, lambda row: [len({ranking[0] for ranking in _distinct(row)}) > 1]),
    )


def _distinct(row: Row) -> list[tuple[int, ...]]:
    """The recorded and the repeated ranking of the different texts: of equal ones the best place counts."""
    same = row["same_as"]
    return [
        tuple(dict.fromkeys(int(same[candidate]) for candidate in row[f"{when}_ranking"]))
        for when in ("recorded", "repeated")
    ]


def _first_won(row: Row) -> Iterator[bool]:
    same = list(row["same_as"])
    for when in ("recorded", "repeated"):
        best = row[f"{when}_ranking"][0]
        if same.count(same[best]) == 1:
            yield best == row[f"{when}_permutation"][0]


def _longer_above(row: Row) -> Iterator[bool]:
    lengths = row["lengths"]
    for better, worse in (*combinations(row["recorded_ranking"], 2), *combinations(row["repeated_ranking"], 2)):
        if lengths[better] != lengths[worse]:
            yield lengths[better] > lengths[worse]


def _mean(rows: Sequence[Row], values_of: Callable[[Row], Iterable[float]]) -> Interval | None:
    found = [(float(value), row["prompt_id"]) for row in rows for value in values_of(row)]
    if not found:
        return None
    return bootstrap_interval([value for value, _ in found], [prompt_id for _, prompt_id in found])
