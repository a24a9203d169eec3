"""A judge's consistency, by hand."""

from typing import Any

import pytest

from cyclealign.judge_audit import AuditFigures, RepeatedRanking, audit_figures


def repeated(recorded: tuple[int, ...], again: tuple[int, ...], **changes: Any) -> RepeatedRanking:
    fields = {
        "prompt_id": "p",
        "recorded_order": (0, 1, 2),
        "repeated_order": (2, 1, 0),
        "lengths": (30, 20, 10),
        "same_as": (0, 1, 2),
    }
    return RepeatedRanking(recorded=recorded, repeated=again, **{**fields, **changes})


def mean(figures: AuditFigures, name: str) -> float:
    return float(getattr(figures, name).mean)


def test_a_judge_that_heeds_the_texts_alone_is_consistent() -> None:
    figures = audit_figures([repeated((1, 0, 2), (1, 0, 2), prompt_id=f"p{number}") for number in range(3)])
    assert (figures.n, mean(figures, "tau"), mean(figures, "flips"), mean(figures, "first")) == (3, 1, 0, 0)


def test_a_judge_that_copies_the_order_shown_is_found_out() -> None:
    """Shown 0, 1, 2 and then 2, 1, 0, and ranked so both times: reversed, flipped, the first one always best."""
    figures = audit_figures([repeated((0, 1, 2), (2, 1, 0))])
    assert (mean(figures, "tau"), mean(figures, "flips"), mean(figures, "first")) == (-1, 1, 1)
    assert mean(figures, "longer") == 0.5


def test_tau_by_hand() -> None:
    """Of three pairs one changed: (3 - 2 · 1) / 3; the best candidate stayed."""
    figures = audit_figures([repeated((0, 1, 2), (0, 2, 1))])
    assert mean(figures, "tau") == pytest.approx(1 / 3)
    assert mean(figures, "flips") == 0


def test_a_judge_that_likes_length_is_found_out() -> None:
    assert mean(audit_figures([repeated((0, 1, 2), (0, 1, 2))]), "longer") == 1


def test_equal_texts_are_one_and_say_nothing_about_consistency() -> None:
    """Candidates 0 and 1 are the same text: an exchange of the two is no change."""
    same = {"same_as": (0, 0, 2), "lengths": (5, 5, 5)}
    figures = audit_figures([repeated((0, 1, 2), (1, 0, 2), **same)])
    assert (mean(figures, "tau"), mean(figures, "flips"), figures.longer) == (1, 0, None)
    nothing = audit_figures([repeated((0, 1, 2), (2, 1, 0), same_as=(0, 0, 0))])
    assert (nothing.n, nothing.comparable, nothing.tau, nothing.flips) == (1, 0, None, None)


def test_equal_texts_say_nothing_about_the_first_position() -> None:
    """The best text stands at two places in the first ranking, and alone at the first place in one of two answers."""
    identical = repeated((0, 1, 2), (2, 1, 0), same_as=(0, 0, 0))
    twice = repeated((0, 1, 2), (1, 0, 2), same_as=(0, 0, 2))
    once = repeated((2, 0, 1), (2, 0, 1), same_as=(0, 0, 2))
    assert audit_figures([identical]).first is None
    assert audit_figures([twice]).first is None
    figures = audit_figures([identical, twice, once])
    assert (figures.n, figures.comparable, mean(figures, "first")) == (3, 2, 0.5)


def test_no_rankings_no_figures() -> None:
    assert audit_figures([]) == AuditFigures(0, 0, None, None, None, None)
