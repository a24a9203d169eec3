"""Win rates and a judge's leanings, by hand."""

import pytest

from cyclealign.pairwise import DecidedPrompt, ShownVerdict, judge_bias, pairwise_figures


def decided(*outcomes: str, inconsistent: int = 0) -> list[DecidedPrompt]:
    """Outcomes; the last `inconsistent` of them were decided differently in the two orders."""
    return [DecidedPrompt(outcome, place >= len(outcomes) - inconsistent) for place, outcome in enumerate(outcomes)]


def test_shares_are_of_all_prompts_missing_ones_included() -> None:
    """10 prompts: 4 won, 3 tied (1 of them inconsistent), 2 lost, 1 missing."""
    found = pairwise_figures(decided(*["win"] * 4, *["lose"] * 2, "missing", *["tie"] * 3, inconsistent=1))
    assert (found.n, found.win.mean, found.tie.mean, found.lose.mean) == pytest.approx((10, 0.4, 0.3, 0.2))
    assert (found.missing, found.inconsistent) == pytest.approx((0.1, 0.1))
    assert found.win.mean + found.tie.mean + found.lose.mean + found.missing == pytest.approx(1)


def test_a_judge_that_always_says_first_is_all_ties_and_all_inconsistent() -> None:
    found = pairwise_figures(decided(*["tie"] * 5, inconsistent=5))
    assert (found.tie.mean, found.inconsistent, found.win.high) == (1, 1, 0)


def test_intervals_narrow_with_more_prompts() -> None:
    few, many = (pairwise_figures(decided(*["win", "lose"] * size)).win for size in (10, 400))
    assert few.low < many.low < 0.5 < many.high < few.high


def test_nothing_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="no compared prompts"):
        pairwise_figures([])


def test_bias_counts_verdicts_that_name_a_response() -> None:
    """Of 4 decided verdicts 3 went to the first shown; of the 3 with unequal lengths 1 went to the longer."""
    verdicts = [
        ShownVerdict("p0", "first", 5, 9),
        ShownVerdict("p0", "first", 9, 5),
        ShownVerdict("p1", "first", 7, 7),
        ShownVerdict("p1", "second", 8, 2),
        ShownVerdict("p2", "tie", 1, 9),
        ShownVerdict("p2", "missing", 1, 9),
    ]
    found = judge_bias(verdicts)
    assert found.decided == 4
    assert found.first is not None
    assert found.longer is not None
    assert (found.first.mean, found.longer.mean, found.longer.n) == (0.75, pytest.approx(1 / 3), 3)


def test_bias_of_undecided_verdicts_is_unknown() -> None:
    found = judge_bias([ShownVerdict("p0", "tie", 1, 2)])
    assert (found.decided, found.first, found.longer) == (0, None, None)
