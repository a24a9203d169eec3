"""The regressions that the offline judges learn by, fitted with damped Newton steps.

`posterior` is a Bayesian Plackett-Luce regression: the worth of response y to prompt x is w · f(x, y), belief about w
is a Gaussian, every ranking multiplies it by its likelihood, and the result is again approximated by a Gaussian at
its mode (Laplace). `logistic_weights` fits heads to pairs. Knows nothing about texts: rows of features come in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_NEWTON_STEPS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """A belief about weights."""

    mean: Array
    """The most probable weights, [D]."""
    precision: Array
    """The inverse of the covariance, [D, D], positive definite."""

    def draw(self, seed: int, spread: float = 1.0) -> Array:
        """One weight vector, [D]; `spread` multiplies the standard deviation, 0 gives the mean."""
        noise = np.random.default_rng(seed).standard_normal(self.mean.size)
        factor = np.linalg.cholesky(self.precision)  # precision = L Lᵀ, so L⁻ᵀ noise has its inverse as covariance
        return np.asarray(self.mean + spread * np.linalg.solve(factor.T, noise), np.float64)


def posterior(prior: Gaussian, rankings: Sequence[Array]) -> Gaussian:
    """The belief after seeing these rankings: the posterior's mode, and the curvature there as precision.

    Args:
        prior: The belief before.
        rankings: One array [R, D] each, rows best first; those with fewer than two rows say nothing.
    """
    # A ranking is a row of choices: the first of each suffix was taken from the whole suffix.
    suffixes = [ranking[k:] for ranking in rankings for k in range(len(ranking) - 1)]
    if not suffixes:
        return prior
    options = np.zeros((len(suffixes), max(map(len, suffixes)), prior.mean.size))
    is_open = np.zeros(options.shape[:2], bool)
    for choice, suffix in enumerate(suffixes):
        options[choice, : len(suffix)] = suffix
        is_open[choice, : len(suffix)] = True

    def loss(weights: Array) -> float:
        """Negative logarithm of the posterior, nats, up to a constant."""
        apart, worth = weights - prior.mean, options @ weights
        told = np.logaddexp.reduce(np.where(is_open, worth, -np.inf), axis=1) - worth[:, 0]
        return float(told.sum()) + 0.5 * float(apart @ prior.precision @ apart)

    def slope(weights: Array) -> tuple[Array, Array]:
        worth = np.where(is_open, options @ weights, -np.inf)
        share = np.exp(worth - np.logaddexp.reduce(worth, axis=1, keepdims=True))
        expected = np.einsum("cr,crd->cd", share, options)
        weighted = (options * share[..., None]).reshape(-1, weights.size)
        curvature = weighted.T @ options.reshape(-1, weights.size) - expected.T @ expected
        gradient = (expected - options[:, 0]).sum(0) + prior.precision @ (weights - prior.mean)
        return gradient, prior.precision + curvature

    mode = _lowest(prior.mean, loss, slope, converged=1e-8)
    return Gaussian(mode, slope(mode)[1])


def logistic_weights(rows: Array, strength: float) -> Array:
    """The weights w [D] that minimise mean log(1 + exp(-row · w)) + strength / 2 · |w|².

    Rows [N, D] are, for preferences, chosen minus rejected; for two classes, rows times +1 or -1.
    """

    def loss(weights: Array) -> float:
        return float(np.logaddexp(0, -rows @ weights).mean() + strength / 2 * weights @ weights)

    def slope(weights: Array) -> tuple[Array, Array]:
        miss = sigmoid(-rows @ weights)
        gradient = strength * weights - rows.T @ miss / len(rows)
        return gradient, (rows.T * (miss * (1 - miss))) @ rows / len(rows) + strength * np.eye(len(weights))

    return _lowest(np.zeros(rows.shape[1]), loss, slope, converged=1e-9)


def sigmoid(logits: Array) -> Array:
    """1 / (1 + e^-logit), without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0, -logits)), np.float64)


def _lowest(
    start: Array, loss: Callable[[Array], float], slope: Callable[[Array], tuple[Array, Array]], converged: float
) -> Array:
    """The weights [D] of the lowest convex loss: each Newton step is the largest of 1, ½, ¼ … that does not raise it.

    `slope` gives gradient [D] and Hessian [D, D]; the fit is done where the Newton decrement is below `converged` nats.
    """
    weights = start
    for _ in range(MAX_NEWTON_STEPS):
        gradient, curvature = slope(weights)
        step: Array = np.asarray(np.linalg.solve(curvature, gradient), np.float64)
        if gradient @ step < converged:
            break
        before, size = loss(weights), 1.0
        while size > 1e-6 and loss(weights - size * step) > before:
            size /= 2
        weights = weights - size * step
    return weights


def worths(rows: Array, weights: Array) -> Array:
    """The worth [R] of rows of features [R, D] under weights [D]; equal rows are worth the same.

    A matrix product does not promise that: its sums run in another order in the rows left over at the end, and the
    rounding, different on each kind of processor, would then rank texts that are the same.
    """
    return np.asarray((rows * weights).sum(axis=1), np.float64)


def order(worth: Array) -> tuple[int, ...]:
    """Indices of these worths, best first; equal worths keep their order."""
    return tuple(int(index) for index in np.argsort(-worth, kind="stable"))
