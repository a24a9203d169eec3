"""A ranker that learns from the rankings it is shown: Bayesian Plackett-Luce regression.

The worth of response y to prompt x is w · f(x, y). Belief about w is a Gaussian; every ranking multiplies it
by its Plackett-Luce likelihood, and the result is again approximated by a Gaussian at its mode (Laplace).
Knows nothing about texts: rows of features come in, a belief goes out. Called by `judge`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_NEWTON_STEPS = 30
CONVERGED = 1e-8
"""Newton decrement, nats, below which the mode counts as found."""


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """A belief about the weights.

    Attributes:
        mean: The most probable weights, shape [D].
        precision: The inverse of the covariance, shape [D, D], positive definite.
    """

    mean: Array
    precision: Array

    @classmethod
    def isotropic(cls, size: int, spread: float) -> "Gaussian":
        """No opinion: mean 0 and the same standard deviation in each of `size` directions."""
        return cls(np.zeros(size), np.eye(size) / spread**2)

    def draw(self, seed: int, spread: float = 1.0) -> Array:
        """One weight vector of shape [D]; `spread` multiplies the standard deviation, 0 gives the mean."""
        noise = np.random.default_rng(seed).standard_normal(self.mean.size)
        factor = np.linalg.cholesky(self.precision)  # precision = L Lᵀ, so L⁻ᵀ noise has its inverse as covariance
        return np.asarray(self.mean + spread * np.linalg.solve(factor.T, noise), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Choices:
    """Rankings taken apart into Plackett-Luce choices: the first of each row was taken from the whole row.

    `options` has shape [choices, R, D], padded with zeros where `open` (shape [choices, R]) is False.
    """

    options: Array
    open: NDArray[np.bool_]

    @classmethod
    def of(cls, rankings: Sequence[Array], size: int) -> "_Choices":
        suffixes = [ranking[k:] for ranking in rankings for k in range(len(ranking) - 1)]
        widest = max((len(suffix) for suffix in suffixes), default=0)
        options = np.zeros((len(suffixes), widest, size))
        is_open = np.zeros((len(suffixes), widest), bool)
        for row, suffix in enumerate(suffixes):
            options[row, : len(suffix)] = suffix
            is_open[row, : len(suffix)] = True
        return cls(options, is_open)

    def loss(self, weights: Array) -> float:
        """Negative log-likelihood, nats, summed over the choices."""
        if not len(self.options):
            return 0.0
        worth = self.options @ weights
        return float((np.logaddexp.reduce(np.where(self.open, worth, -np.inf), axis=1) - worth[:, 0]).sum())

    def slope(self, weights: Array) -> tuple[Array, Array]:
        """Gradient [D] and Hessian [D, D] of `loss`."""
        if not len(self.options):
            return np.zeros_like(weights), np.zeros((weights.size, weights.size))
        worth = np.where(self.open, self.options @ weights, -np.inf)
        share = np.exp(worth - np.logaddexp.reduce(worth, axis=1, keepdims=True))
        expected = np.einsum("cr,crd->cd", share, self.options)
        weighted = (self.options * share[..., None]).reshape(-1, weights.size)
        curvature = weighted.T @ self.options.reshape(-1, weights.size) - expected.T @ expected
        return (expected - self.options[:, 0]).sum(0), curvature


def posterior(prior: Gaussian, rankings: Sequence[Array]) -> Gaussian:
    """The belief after seeing these rankings.

    Args:
        prior: The belief before.
        rankings: One array of shape [R, D] each, rows best first; those with fewer than two rows say nothing.

    Returns:
        The Gaussian at the posterior's mode with the curvature there as its precision.

    Raises:
        ValueError: a ranking's rows have another size than the prior.
    """
    size = prior.mean.size
    for ranking in rankings:
        if ranking.ndim != 2 or ranking.shape[1] != size:
            raise ValueError(f"A ranking has shape {ranking.shape}, expected [responses, {size}].")
    choices = _Choices.of(rankings, size)
    weights = prior.mean
    for _ in range(MAX_NEWTON_STEPS):
        gradient, curvature = choices.slope(weights)
        gradient = gradient + prior.precision @ (weights - prior.mean)
        step: Array = np.asarray(np.linalg.solve(prior.precision + curvature, gradient), np.float64)
        if gradient @ step < CONVERGED:
            break
        weights = _descend(prior, choices, weights, step)
    return Gaussian(weights, prior.precision + choices.slope(weights)[1])


def _descend(prior: Gaussian, choices: _Choices, weights: Array, step: Array) -> Array:
    """Weights after the largest of the steps 1, ½, ¼ … that does not raise the loss."""

    def loss(at: Array) -> float:
        apart = at - prior.mean
        return choices.loss(at) + 0.5 * float(apart @ prior.precision @ apart)

    before, size = loss(weights), 1.0
    while size > 1e-6 and loss(weights - size * step) > before:
        size /= 2
    return np.asarray(weights - size * step, np.float64)


def worths(rows: Array, weights: Array) -> Array:
    """What rows of features [R, D] are worth under these weights [D], shape [R]; equal rows are worth the same.

    A matrix product does not promise that: its sums run in another order in the rows left over at the end, and
    the rounding, different on each kind of processor, would then rank texts that are the same.
    """
    return np.asarray((rows * weights).sum(axis=1), np.float64)


def order(worth: Array) -> tuple[int, ...]:
    """Indices of these worths, best first; equal worths keep their order."""
    return tuple(int(index) for index in np.argsort(-worth, kind="stable"))
