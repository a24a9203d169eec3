"""Preference heads: linear opinions about frozen states, fitted on the pairs of HH-RLHF's annotators.

What annotators called harmless and what they called helpful pull in opposite directions, so there is one
head for harmless-base and one for the helpful subsets; a single head over both is near chance. A gate tells
the two kinds of prompt apart for whoever does not know the subset. Leaves out where states come from
(`frozen_features`) and which pairs are used (`preference_pairs`).
"""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cyclealign.errors import ModelError
from cyclealign.offline.frozen_features import Reading

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

HEAD_STRENGTH = 30.0
"""Ridge penalty of every preference head, on standardised states and the mean loss.

Cross-validated accuracy on training pairs is best here and hardly worse from 1 to 100. Towards the upper end every
head becomes the direction from the mean rejected to the mean chosen state, which is why two of them are so alike.
"""
GATE_STRENGTH = 0.03
"""Ridge penalty of the gate, likewise: the smallest cross-validated loss on training prompts."""
MAX_NEWTON_STEPS = 50
CONVERGED = 1e-9
"""Newton decrement per row, nats, below which a fit counts as done."""


def logistic_weights(rows: Array, strength: float) -> Array:
    """The weights w that minimise mean log(1 + exp(-row · w)) + strength / 2 · |w|².

    Args:
        rows: [N, D]. For preferences: chosen minus rejected; for two classes: rows times +1 or -1.
        strength: Of the ridge penalty, above 0.

    Returns:
        [D]
    """
    weights = np.zeros(rows.shape[1])
    for _ in range(MAX_NEWTON_STEPS):
        miss = _sigmoid(-rows @ weights)
        gradient = strength * weights - rows.T @ miss / len(rows)
        curvature = (rows.T * (miss * (1 - miss))) @ rows / len(rows) + strength * np.eye(len(weights))
        step = np.asarray(np.linalg.solve(curvature, gradient), np.float64)
        if gradient @ step < CONVERGED:
            break
        weights = weights - _damped(rows, strength, weights, step)
    return weights


def _damped(rows: Array, strength: float, weights: Array, step: Array) -> Array:
    """The largest of the steps 1, ½, ¼ … that lowers the loss."""

    def loss(at: Array) -> float:
        return float(np.logaddexp(0, -rows @ at).mean() + strength / 2 * at @ at)

    before, size = loss(weights), 1.0
    while size > 1e-6 and loss(weights - size * step) > before:
        size /= 2
    return np.asarray(size * step, np.float64)


def _sigmoid(logits: Array) -> Array:
    return np.asarray(np.exp(-np.logaddexp(0, -logits)), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class LinearScore:
    """states · weights + offset."""

    weights: Array
    """[H]"""
    offset: float

    def __call__(self, states: Array) -> Array:
        """Scores [N] of states [N, H]."""
        return np.asarray(states @ self.weights + self.offset, np.float64)

    def packed(self) -> Array:
        """The weights with the offset behind them, [H + 1]."""
        return np.append(self.weights, self.offset)

    @classmethod
    def unpacked(cls, packed: Array) -> "LinearScore":
        """The score whose `packed` form this is."""
        return cls(packed[:-1], float(packed[-1]))


@dataclass(frozen=True, slots=True, eq=False)
class PreferenceHead:
    """How good a response is in annotators' eyes, in standard deviations over the responses it was fitted on.

    Scores are standardised and the fits weak: the sigmoid of a difference is *not* the probability that one
    response is preferred to another.
    """

    harmless: LinearScore
    helpful: LinearScore

    @classmethod
    def fit(cls, states: Array, harmless: Flags, strength: float = HEAD_STRENGTH) -> "PreferenceHead":
        """The heads of N pairs.

        Args:
            states: [N, 2, H], chosen first.
            harmless: [N], whether the pair is one of harmless-base; both kinds occur.
            strength: Of the ridge penalty on states that are standardised by dimension.
        """
        spread = states.reshape(-1, states.shape[-1]).std(0)
        return cls(*(_fit_one(states[kind], spread, strength) for kind in (harmless, ~harmless)))

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> "PreferenceHead":
        """The head that `arrays` put there."""
        return cls(LinearScore.unpacked(arrays["harmless"]), LinearScore.unpacked(arrays["helpful"]))

    def arrays(self) -> dict[str, Array]:
        """The head as arrays for a file."""
        return {"harmless": self.harmless.packed(), "helpful": self.helpful.packed()}

    def __call__(self, states: Array, harmless: Array) -> Array:
        """Scores [N] of states [N, H]; `harmless` [N]: probability that the prompt is of harmless-base."""
        return harmless * self.harmless(states) + (1 - harmless) * self.helpful(states)


def _fit_one(states: Array, spread: Array, strength: float) -> LinearScore:
    """The head of one kind of pairs: direction by logistic regression, scale by the responses' own spread."""
    direction = logistic_weights((states[:, 0] - states[:, 1]) / spread, strength) / spread
    scores = states.reshape(-1, states.shape[-1]) @ direction
    return LinearScore(direction / scores.std(), float(-scores.mean() / scores.std()))


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """Tells from a prompt's state whether it is one of harmless-base."""

    logit: LinearScore

    @classmethod
    def fit(cls, states: Array, harmless: Flags, strength: float = GATE_STRENGTH) -> "Gate":
        """The gate of N prompts with states [N, H]; the penalty is on standardised states."""
        mean, spread = states.mean(0), states.std(0)
        rows = np.hstack([(states - mean) / spread, np.ones((len(states), 1))])
        *slopes, constant = logistic_weights(rows * np.where(harmless, 1, -1)[:, None], strength)
        weights = np.array(slopes) / spread
        return cls(LinearScore(weights, float(constant - mean @ weights)))

    def __call__(self, states: Array) -> Array:
        """The probability [N] that a prompt with states [N, H] is of harmless-base."""
        return _sigmoid(self.logit(states))


def accuracy(scores: Array) -> float:
    """Of scores [N, 2], chosen first: the share of pairs with the chosen one higher; a tie counts half."""
    gaps = scores[:, 0] - scores[:, 1]
    return float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))


@dataclass(frozen=True, slots=True, eq=False)
class FittedArrays:
    """What a file of fitted heads holds, and what it was fitted for."""

    identity: str
    """Names these heads wherever one of their figures is stored."""
    frozen_model: str
    """Identity of the model whose states they read."""
    reading: Reading
    arrays: dict[str, Array]

    def save(self, path: Path) -> None:
        """Writes safetensors with the rest as its header."""
        header = {"identity": self.identity, "frozen_model": self.frozen_model}
        reading = {"reading": json.dumps(astuple(self.reading))}
        save_file(self.arrays, path, metadata=header | reading)

    @classmethod
    def load(cls, path: Path, frozen_model: str) -> "FittedArrays":
        """The arrays in `path`.

        Raises:
            ModelError: there are none, the file is broken, or they were fitted on the states of another model.
        """
        if not path.is_file():
            raise ModelError(f"No preference heads at {path}: `build_preference` fits them.")
        try:
            with safe_open(path, framework="np") as opened:
                header = opened.metadata()
                arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no iterator
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} cannot be read: {error}. Remove its folder to fit the heads anew.") from None
        if header["frozen_model"] != frozen_model:
            raise ModelError(
                f"{path} was fitted on the states of model {header['frozen_model']}, found model "
                f"{frozen_model}. Use the model that it was fitted on, or fit anew."
            )
        layers, prompt_tokens, response_tokens = json.loads(header["reading"])
        reading = Reading(tuple(layers), prompt_tokens, response_tokens)
        return cls(header["identity"], frozen_model, reading, arrays)
