"""The Bayesian Plackett-Luce regression, and the logistic one."""

import numpy as np
import pytest

from cyclealign.offline.regression import Gaussian, logistic_weights, order, posterior, worths


def belief(size: int, spread: float = 1.0) -> Gaussian:
    return Gaussian(np.zeros(size), np.eye(size) / spread**2)


def test_without_rankings_the_belief_stays() -> None:
    prior = Gaussian(np.array([1.0, -2.0]), np.diag([4.0, 9.0]))
    assert posterior(prior, [np.ones((1, 2))]) is prior


def test_the_mode_of_one_pair_is_where_prior_and_likelihood_balance() -> None:
    """One feature, better 1, worse 0, prior N(0, 1): the mode solves w = 1 - sigmoid(w), so w = 0.40106.

    The curvature there is 1 + sigmoid(w) · (1 - sigmoid(w)) = 1 + 0.59894 · 0.40106 = 1.24021.
    """
    after = posterior(belief(1), [np.array([[1.0], [0.0]])])
    assert after.mean[0] == pytest.approx(0.40106, abs=1e-4)
    assert after.precision[0, 0] == pytest.approx(1.24021, abs=1e-4)


def test_three_responses_are_two_choices() -> None:
    """The likelihood of a, b, c is that of a among all three, then of b over c: its mode on a grid."""
    a, b, c = 1.0, 0.5, -1.0
    grid = np.linspace(-3, 5, 80_001)
    first = a * grid - np.logaddexp(np.logaddexp(a * grid, b * grid), c * grid)
    second = b * grid - np.logaddexp(b * grid, c * grid)
    best = grid[np.argmax(first + second - grid**2 / 2)]
    assert posterior(belief(1), [np.array([[a], [b], [c]])]).mean[0] == pytest.approx(best, abs=1e-3)


def test_rankings_of_different_lengths_do_not_disturb_each_other_and_extreme_ones_stay_finite() -> None:
    rng = np.random.default_rng(0)
    pairs, fives = list(rng.standard_normal((3, 2, 3))), list(rng.standard_normal((3, 5, 3)))
    mixed = posterior(belief(3), [*pairs, *fives])
    shuffled = posterior(belief(3), [fives[0], *pairs, *fives[1:]])
    assert np.allclose(mixed.mean, shuffled.mean, atol=1e-6)
    extreme = posterior(mixed, [np.array([[1e4, 0.0, 0.0], [-1e4, 1.0, 0.0]])] * 3)
    assert np.isfinite(extreme.draw(0)).all()


def test_draws_scatter_as_the_precision_says_and_depend_on_the_seed_alone() -> None:
    some = Gaussian(np.array([1.0, 2.0]), np.array([[4.0, 1.0], [1.0, 2.0]]))
    draws = np.stack([some.draw(seed) for seed in range(4000)])
    assert np.allclose(draws.mean(0), some.mean, atol=0.05)
    assert np.allclose(np.cov(draws.T), np.linalg.inv(some.precision), atol=0.05)
    assert np.array_equal(some.draw(3), draws[3])
    assert np.array_equal(some.draw(3, spread=0.0), some.mean)


def test_equal_rows_are_worth_the_same_wherever_they_stand_and_keep_their_order() -> None:
    """A matrix product rounds its last rows otherwise; the order of equal texts would be the processor's."""
    rng = np.random.default_rng(0)
    for count in range(2, 10):
        for width in range(1, 40):
            rows = np.tile(rng.standard_normal(width), (count, 1))
            assert order(worths(rows, rng.standard_normal(width))) == tuple(range(count))
    assert order(np.array([1.0, 2.0, 1.0, 2.0])) == (1, 3, 0, 2)
    assert worths(np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([0.5, 2.0])).tolist() == [4.5, -0.5]


def test_one_row_is_weighed_where_its_slope_meets_the_penalty() -> None:
    """With a single row 1 the minimum solves s w = 1 / (1 + e^w), so s = 1 / (1 + e) gives w = 1."""
    np.testing.assert_allclose(logistic_weights(np.array([[1.0]]), 1 / (1 + np.e)), [1.0], atol=1e-6)
