"""Figures of a judge audit: does the black box rank alike when the same candidates are shown in another order?

Candidates with the same text count as one, since an order between them says nothing. Prompts are the unit of
chance. Leaves out asking again (`tasks.evaluation.audit`) and showing (`cyclealign.report.audit_tables`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from cyclealign.method.rankings import kendall_tau
from cyclealign.statistics import Interval, bootstrap_interval


@dataclass(frozen=True, slots=True)
class RepeatedRanking:
    """A ranking as it was recorded and as it came again; ids are candidate ids, best first."""

    prompt_id: str
    recorded: tuple[int, ...]
    repeated: tuple[int, ...]
    recorded_order: tuple[int, ...]
    """Element i is the id of the candidate that was shown at position i."""
    repeated_order: tuple[int, ...]
    lengths: tuple[int, ...]
    """Characters, by candidate id."""
    same_as: tuple[int, ...]
    """By candidate id: the lowest id with the same text."""

    def distinct(self, ranking: Sequence[int]) -> tuple[int, ...]:
        """The ranking of the different texts: of equal ones the best place counts."""
        return tuple(dict.fromkeys(self.same_as[candidate] for candidate in ranking))


@dataclass(frozen=True, slots=True)
class AuditFigures:
    """Intervals over prompts; None where no ranking says anything about it."""

    n: int
    """Rankings that were asked for again and read."""
    comparable: int
    """Of these, rankings of at least two different texts: `tau`, `flips` and `first` are over them."""
    tau: Interval | None
    """Kendall's tau of the two rankings: 1 alike, 0 unrelated, -1 reversed."""
    flips: Interval | None
    """Share whose best text is another one the second time."""
    first: Interval | None
    """Share of answers whose best text was the one shown first; 1 / candidates without a bias. Answers whose best text
    stood at several places are left out."""
    longer: Interval | None
    """Share of pairs of unequal length, in all answers, that have the longer one above the shorter one."""


def audit_figures(rankings: Sequence[RepeatedRanking]) -> AuditFigures:
    """Consistency of the order, position bias and length effect."""
    comparable = [one for one in rankings if len(set(one.same_as)) > 1]
    return AuditFigures(
        n=len(rankings),
        comparable=len(comparable),
        tau=_mean(comparable, lambda one: [kendall_tau(one.distinct(one.recorded), one.distinct(one.repeated))]),
        flips=_mean(comparable, lambda one: [float(_flipped(one))]),
        first=_mean(comparable, lambda one: list(_first_won(one))),
        longer=_mean(rankings, lambda one: list(_longer_above(one))),
    )


def _flipped(one: RepeatedRanking) -> bool:
    return one.distinct(one.recorded)[0] != one.distinct(one.repeated)[0]


def _first_won(one: RepeatedRanking) -> Iterator[float]:
    for ranking, order in ((one.recorded, one.recorded_order), (one.repeated, one.repeated_order)):
        if one.same_as.count(one.same_as[ranking[0]]) == 1:
            yield float(ranking[0] == order[0])


def _longer_above(one: RepeatedRanking) -> Iterator[float]:
    for ranking in (one.recorded, one.repeated):
        for better, worse in combinations(ranking, 2):
            if one.lengths[better] != one.lengths[worse]:
                yield float(one.lengths[better] > one.lengths[worse])


def _mean(rankings: Sequence[RepeatedRanking], values_of: Callable[[RepeatedRanking], list[float]]) -> Interval | None:
    found = [(value, one.prompt_id) for one in rankings for value in values_of(one)]
    if not found:
        return None
    return bootstrap_interval([value for value, _ in found], [prompt_id for _, prompt_id in found])
