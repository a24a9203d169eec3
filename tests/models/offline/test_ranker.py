"""The Bayesian Plackett-Luce ranker."""

import numpy as np
import pytest

from cyclealign.offline.ranker import Array, Gaussian, order, posterior, worths


def rankings_by(truth: Array, count: int, seed: int, width: int = 3) -> list[Array]:
    """Random feature rows in the order of their true worth, best first."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, width, truth.size))
    return [ranking[list(order(ranking @ truth))] for ranking in rows]


def accuracy(weights: Array, rankings: list[Array]) -> float:
    return float(np.mean([weights @ ranking[0] > weights @ ranking[-1] for ranking in rankings]))


def test_without_rankings_the_belief_stays_as_it_was() -> None:
    prior = Gaussian(np.array([1.0, -2.0]), np.diag([4.0, 9.0]))
    after = posterior(prior, [])
    assert np.array_equal(after.mean, prior.mean)
    assert np.array_equal(after.precision, prior.precision)


def test_the_mode_of_one_pair_is_where_prior_and_likelihood_balance() -> None:
    """One feature, better 1, worse 0, prior N(0, 1): the mode solves w = 1 - sigmoid(w), so w = 0.40106.

    The curvature there is 1 + sigmoid(w) · (1 - sigmoid(w)) = 1 + 0.59894 · 0.40106 = 1.24021.
    """
    after = posterior(Gaussian.isotropic(1, 1.0), [np.array([[1.0], [0.0]])])
    assert after.mean[0] == pytest.approx(0.40106, abs=1e-4)
    assert after.precision[0, 0] == pytest.approx(1.24021, abs=1e-4)


def test_three_responses_are_two_choices() -> None:
    """The likelihood of a, b, c is that of a among all three, then of b over c: its mode on a grid."""
    a, b, c = 1.0, 0.5, -1.0
    grid = np.linspace(-3, 5, 80_001)
    first = a * grid - np.logaddexp(np.logaddexp(a * grid, b * grid), c * grid)
    second = b * grid - np.logaddexp(b * grid, c * grid)
    best = grid[np.argmax(first + second - grid**2 / 2)]
    after = posterior(Gaussian.isotropic(1, 1.0), [np.array([[a], [b], [c]])])
    assert after.mean[0] == pytest.approx(best, abs=1e-3)


def test_rankings_of_different_lengths_do_not_disturb_each_other() -> None:
    truth = np.array([1.0, -1.0, 0.5])
    pairs, fives = rankings_by(truth, 3, 0, width=2), rankings_by(truth, 3, 1, width=5)
    prior = Gaussian.isotropic(3, 1.0)
    mixed = posterior(prior, [*pairs, *fives])
    shuffled = posterior(prior, [fives[0], *pairs, *fives[1:]])
    assert np.allclose(mixed.mean, shuffled.mean, atol=1e-6)


def test_rankings_in_true_order_make_later_rankings_better() -> None:
    truth = np.random.default_rng(7).standard_normal(12)
    prior = posterior(Gaussian.isotropic(12, 0.5), rankings_by(truth, 5, 1, width=2))
    unseen = rankings_by(truth, 400, 2)
    figures = [
        np.mean([accuracy(posterior(prior, rankings_by(truth, n, 3)).draw(s), unseen) for s in range(20)])
        for n in (0, 10, 80)
    ]
    assert figures[0] + 0.05 < figures[1] < figures[2] - 0.02


def test_rankings_in_random_order_make_later_rankings_worse() -> None:
    truth = np.random.default_rng(7).standard_normal(12)
    prior = posterior(Gaussian.isotropic(12, 0.5), rankings_by(truth, 40, 1))
    rng = np.random.default_rng(5)
    misled = posterior(prior, [rng.permutation(ranking) for ranking in rankings_by(truth, 40, 4)])
    unseen = rankings_by(truth, 400, 2)
    assert accuracy(misled.mean, unseen) < accuracy(prior.mean, unseen)


def test_draws_scatter_as_the_precision_says() -> None:
    belief = Gaussian(np.array([1.0, 2.0]), np.array([[4.0, 1.0], [1.0, 2.0]]))
    draws = np.stack([belief.draw(seed) for seed in range(4000)])
    assert np.allclose(draws.mean(0), belief.mean, atol=0.05)
    assert np.allclose(np.cov(draws.T), np.linalg.inv(belief.precision), atol=0.05)


def test_without_spread_a_draw_is_the_mean() -> None:
    belief = Gaussian(np.array([1.0, 2.0]), np.eye(2))
    assert np.array_equal(belief.draw(3, spread=0.0), belief.mean)


def test_equal_seeds_draw_equal_weights() -> None:
    belief = Gaussian.isotropic(5, 1.0)
    assert np.array_equal(belief.draw(3), belief.draw(3))
    assert not np.array_equal(belief.draw(3), belief.draw(4))


def test_extreme_features_leave_the_belief_finite() -> None:
    after = posterior(Gaussian.isotropic(2, 1.0), [np.array([[1e4, 0.0], [-1e4, 1.0]])] * 3)
    assert np.isfinite(after.mean).all()
    assert np.isfinite(after.draw(0)).all()


def test_rows_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[responses, 2\]"):
        posterior(Gaussian.isotropic(2, 1.0), [np.zeros((2, 3))])


def test_equal_worths_keep_their_order() -> None:
    assert order(np.array([1.0, 2.0, 1.0, 2.0])) == (1, 3, 0, 2)


@pytest.mark.parametrize("count", range(2, 10))
def test_equal_rows_are_worth_the_same_wherever_they_stand(count: int) -> None:
    """A matrix product rounds its last rows otherwise; the order of equal texts would be the processor's."""
    rng = np.random.default_rng(count)
    for width in range(1, 40):
        rows = np.tile(rng.standard_normal(width), (count, 1))
        assert order(worths(rows, rng.standard_normal(width))) == tuple(range(count))


def test_worth_is_the_product_of_features_and_weights() -> None:
    assert worths(np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([0.5, 2.0])).tolist() == [4.5, -0.5]
