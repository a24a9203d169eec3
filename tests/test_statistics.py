"""Statistics: hand-worked figures, intervals that reproduce, and the paper's own arithmetic."""

import math

import numpy as np
import pytest

from cyclealign.statistics import (
    Interval,
    bootstrap_interval,
    correlation,
    differences_by_prompt,
    distinct_n,
    paired_difference,
    repeated_ngram_share,
    seed_interval,
    sigmoid_100,
)


def test_the_same_seed_gives_the_same_interval_and_another_gives_another() -> None:
    values = list(np.random.default_rng(0).normal(size=50))
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


@pytest.mark.parametrize("prompts", [3, 100, 30_000], ids=["few", "many", "several blocks"])
def test_resampling_in_blocks_gives_the_figures_of_one_resample_after_the_other(prompts: int) -> None:
    values = np.sort(np.random.default_rng(0).normal(size=prompts))
    generator = np.random.default_rng(3)
    means = [values[generator.integers(prompts, size=prompts)].sum() / prompts for _ in range(7)]
    interval = bootstrap_interval(list(values), resamples=7, seed=3)
    assert [interval.low, interval.high] == list(np.quantile(means, [(1 - 0.95) / 2, (1 + 0.95) / 2]))


def test_the_order_of_values_and_of_their_clusters_changes_no_interval() -> None:
    values = [3.0, 1.0, 2.0, 5.0, 4.0, 4.0]
    assert bootstrap_interval(values) == bootstrap_interval(values[::-1])
    prompts = ["a", "a", "b", "b", "c", "c"]
    assert bootstrap_interval(values, prompts) == bootstrap_interval(values[::-1], ["x", "x", "z", "z", "y", "y"])


def test_repeating_each_prompts_value_adds_no_certainty() -> None:
    values = [0.1, 0.9, 0.4, 0.7, 0.2]
    prompts = ["a", "b", "c", "d", "e"]
    once = bootstrap_interval(values, prompts)
    thrice = bootstrap_interval(values * 3, prompts * 3)
    assert thrice.n == 15
    assert [thrice.mean, thrice.low, thrice.high] == pytest.approx([once.mean, once.low, once.high])


def test_prompts_with_more_values_weigh_more() -> None:
    """Every resample holds both prompts or one twice: means 0, 2/3 (two thirds of the values are 1), 1."""
    interval = bootstrap_interval([0.0, 1.0, 1.0], ["a", "b", "b"])
    assert interval.mean == pytest.approx(2 / 3)
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_one_prompt_alone_has_no_interval() -> None:
    for interval in (bootstrap_interval([2.0]), bootstrap_interval([1.0, 3.0], ["a", "a"])):
        assert interval.mean == 2.0
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)


def test_no_values_or_clusters_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="1 clusters for 2 values"):
        bootstrap_interval([1.0, 2.0], ["a"])


def test_intervals_over_prompts_cover_the_truth_where_intervals_over_rows_do_not() -> None:
    """40 prompts of 5 rows that share most of their luck; the true mean is 0."""
    over_prompts = over_rows = 0
    for trial in range(120):
        generator = np.random.default_rng(trial)
        values = (generator.normal(size=(40, 1)) + 0.3 * generator.normal(size=(40, 5))).ravel()
        prompts = [str(prompt) for prompt in range(40) for _ in range(5)]
        clustered = bootstrap_interval(list(values), prompts, resamples=300)
        plain = bootstrap_interval(list(values), resamples=300)
        over_prompts += clustered.low < 0 < clustered.high
        over_rows += plain.low < 0 < plain.high
    assert over_prompts / 120 > 0.88
    assert over_rows / 120 < 0.75


def test_a_paired_difference_compares_the_same_prompts() -> None:
    """Differences 1, 2 and 0, whatever the order of the mappings; a comparison leaves no prompt out."""
    before = {"a": 1.0, "b": 5.0, "c": -1.0}
    after = {"c": -1.0, "b": 7.0, "a": 2.0}
    difference = paired_difference(before, after)
    assert difference == bootstrap_interval([1.0, 2.0, 0.0])
    assert difference == Interval(1.0, difference.low, difference.high, 3)
    assert differences_by_prompt(before, after) == {"a": 1.0, "b": 2.0, "c": 0.0}
    with pytest.raises(ValueError, match="1 prompts only before and 2 only after"):
        paired_difference({"a": 1.0, "b": 1.0}, {"a": 1.0, "c": 1.0, "d": 1.0})


def test_the_sigmoid_is_in_the_unit_of_the_papers_table_1_and_does_not_overflow() -> None:
    assert sigmoid_100([0.0, math.log(3), -math.log(3), 1e6, -1e6]).tolist() == pytest.approx([50, 75, 25, 100, 0])


def test_correlation_of_a_line_is_one_and_of_a_constant_undefined() -> None:
    assert correlation([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert math.isnan(correlation([1, 1, 1], [1, 2, 3]))
    assert math.isnan(correlation([], []))
    with pytest.raises(ValueError, match="2 and 3 values"):
        correlation([1, 2], [1, 2, 3])


def test_distinct_n_is_over_all_texts_together_and_in_lower_case() -> None:
    """Bigrams: the cat, cat sat | the cat, cat ran: three different ones of four."""
    assert distinct_n(["The cat sat", "the  CAT\nran"], 2) == 0.75
    assert distinct_n(["a a a"], 1) == pytest.approx(1 / 3)
    assert distinct_n(["short", ""], 2) == 0.0


def test_repeated_ngrams_are_those_that_occurred_before() -> None:
    """1 2 3 4 1 2 3 4 has five 4-grams; only the last is a repetition."""
    assert repeated_ngram_share([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5)
    assert repeated_ngram_share([7] * 10) == pytest.approx(6 / 7)
    assert repeated_ngram_share([1, 2, 3]) == 0.0


def test_the_interval_over_seeds_is_students() -> None:
    """1, 2, 3: standard deviation 1, t with 2 degrees of freedom 4.3027, half width 4.3027 / √3 = 2.4842."""
    interval = seed_interval([1.0, 2.0, 3.0])
    assert (interval.mean, interval.n) == (2.0, 3)
    assert (interval.low, interval.high) == (pytest.approx(-0.4842, abs=1e-4), pytest.approx(4.4842, abs=1e-4))
    assert math.isnan(seed_interval([1.0]).low)


@pytest.mark.parametrize(("runs", "quantile"), [(31, 2.0423), (32, 2.0395), (61, 2.0003), (1001, 1.9623)])
def test_the_interval_over_many_seeds_comes_close_to_the_normal_one(runs: int, quantile: float) -> None:
    values = list(np.random.default_rng(0).normal(size=runs))
    interval = seed_interval(values)
    reach = (interval.high - interval.low) / 2
    assert reach / (np.std(values, ddof=1) / math.sqrt(runs)) == pytest.approx(quantile, abs=1e-4)
