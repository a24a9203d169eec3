"""Figures of pairwise comparisons: win, tie and lose with their intervals, and what a judge may be swayed by.

Works on outcomes that are already decided (`comparison_outcomes` in the schema: both orders, disagreement is a
tie). Prompts are the unit of chance. Missing outcomes are part of every denominator. Leaves out asking
(`tasks.evaluation.comparison`) and showing (`cyclealign.report.system_tables`).

Paper: Section 4.2, Table 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cyclealign.statistics import Interval, bootstrap_interval

Outcome = Literal["win", "tie", "lose", "missing"]


@dataclass(frozen=True, slots=True)
class DecidedPrompt:
    """How one prompt was decided."""

    outcome: str
    """Of the system on the left: win, tie, lose or missing."""
    inconsistent: bool
    """The two orders were decided differently; counted as a tie."""


@dataclass(frozen=True, slots=True)
class PairwiseFigures:
    """Shares of all prompts, 0 to 1; win, tie, lose and missing add up to 1."""

    n: int
    win: Interval
    tie: Interval
    lose: Interval
    missing: float
    inconsistent: float


@dataclass(frozen=True, slots=True)
class ShownVerdict:
    """One verdict and the responses it was given on, in the order they were shown."""

    prompt_id: str
    verdict: str
    first_length: int
    second_length: int


@dataclass(frozen=True, slots=True)
class JudgeBias:
    """What verdicts that named a better response have in common, apart from its quality."""

    decided: int
    """Verdicts for the first or the second response; ties and missing ones say nothing here."""
    first: Interval | None
    """Share that went to the response shown first: 0.5 where the order does not matter and both were tried."""
    longer: Interval | None
    """Share that went to the longer response, of those with responses of unequal length."""


def pairwise_figures(prompts: Sequence[DecidedPrompt]) -> PairwiseFigures:
    """Win, tie and lose over prompts.

    Raises:
        ValueError: no prompts.
    """
    if not prompts:
        raise ValueError("Found no compared prompts, expected at least one.")
    return PairwiseFigures(
        n=len(prompts),
        win=_share(prompts, "win"),
        tie=_share(prompts, "tie"),
        lose=_share(prompts, "lose"),
        missing=_share(prompts, "missing").mean,
        inconsistent=sum(one.inconsistent for one in prompts) / len(prompts),
    )


def _share(prompts: Sequence[DecidedPrompt], outcome: Outcome) -> Interval:
    return bootstrap_interval([float(one.outcome == outcome) for one in prompts])


def judge_bias(verdicts: Sequence[ShownVerdict]) -> JudgeBias:
    """First-position rate and length effect, with intervals over prompts."""
    decided = [one for one in verdicts if one.verdict in ("first", "second")]
    unequal = [one for one in decided if one.first_length != one.second_length]
    return JudgeBias(
        decided=len(decided),
        first=_rate([one.verdict == "first" for one in decided], decided),
        longer=_rate([_longer_won(one) for one in unequal], unequal),
    )


def _longer_won(one: ShownVerdict) -> bool:
    return (one.first_length > one.second_length) == (one.verdict == "first")


def _rate(hits: Sequence[bool], verdicts: Sequence[ShownVerdict]) -> Interval | None:
    """None where nothing was decided."""
    if not hits:
        return None
    return bootstrap_interval([float(hit) for hit in hits], [one.prompt_id for one in verdicts])
