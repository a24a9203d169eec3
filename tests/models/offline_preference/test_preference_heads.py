from pathlib import Path

import numpy as np
import pytest

from cyclealign.errors import ModelError
from cyclealign.offline.frozen_features import Reading
from cyclealign.offline.preference_heads import FittedArrays, Gate, PreferenceHead, accuracy, logistic_weights


def opposed_pairs(count: int = 200, size: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """States of pairs whose better reply lies along +e0 where harmless, and along -e0 elsewhere."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(count, 2, size))
    harmless = np.arange(count) % 2 == 0
    states[:, 0, 0] += np.where(harmless, 2, -2)
    return states, harmless


def test_one_row_is_weighed_where_its_slope_meets_the_penalty() -> None:
    """With a single row 1 the minimum solves s w = 1 / (1 + e^w), so s = 1 / (1 + e) gives w = 1."""
    strength = 1 / (1 + np.e)
    np.testing.assert_allclose(logistic_weights(np.array([[1.0]]), strength), [1.0], atol=1e-6)


def test_logistic_weights_have_no_slope_left() -> None:
    rows = np.random.default_rng(1).normal(size=(50, 4)) + 0.3
    weights = logistic_weights(rows, 0.1)
    slope = 0.1 * weights - (rows / (1 + np.exp(rows @ weights))[:, None]).mean(0)
    np.testing.assert_allclose(slope, 0, atol=1e-4)


def test_each_kind_of_prompt_has_a_direction_of_its_own() -> None:
    states, harmless = opposed_pairs()
    head = PreferenceHead.fit(states, harmless)
    scores = np.stack([head(states[:, reply], harmless.astype(float)) for reply in (0, 1)], axis=1)
    assert accuracy(scores) > 0.85
    confused = np.stack([head(states[:, reply], (~harmless).astype(float)) for reply in (0, 1)], axis=1)
    assert accuracy(confused) < 0.15


def test_scores_have_mean_0_and_deviation_1_over_what_they_were_fitted_on() -> None:
    states, harmless = opposed_pairs()
    head = PreferenceHead.fit(states * 7 + 3, harmless)
    scores = head.helpful((states[~harmless] * 7 + 3).reshape(-1, states.shape[-1]))
    np.testing.assert_allclose([scores.mean(), scores.std()], [0, 1], atol=1e-9)


def test_half_a_probability_scores_half_way_between_the_two_heads() -> None:
    states, harmless = opposed_pairs()
    head, some = PreferenceHead.fit(states, harmless), states[:3, 0]
    both = (head.harmless(some) + head.helpful(some)) / 2
    np.testing.assert_allclose(head(some, np.full(3, 0.5)), both)


def test_the_gate_gives_the_probability_of_harmless_prompts() -> None:
    rng = np.random.default_rng(2)
    harmless = rng.random(300) < 0.3
    states = rng.normal(size=(300, 4)) * 5 + np.outer(harmless, [10, 0, 0, 0])
    gate = Gate.fit(states, harmless, 0.03)
    assert np.mean((gate(states) > 0.5) == harmless) > 0.8
    np.testing.assert_allclose(gate(states).mean(), harmless.mean(), atol=0.03)


def test_equal_scores_count_as_half_right() -> None:
    assert accuracy(np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [3.0, 1.0]])) == pytest.approx(2.5 / 4)


def test_heads_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    states, harmless = opposed_pairs()
    head = PreferenceHead.fit(states, harmless)
    FittedArrays("a name", "model-1", Reading((16,), 112, 64), head.arrays()).save(tmp_path / "heads")
    loaded = FittedArrays.load(tmp_path / "heads", "model-1")
    assert (loaded.identity, loaded.reading) == ("a name", Reading((16,), 112, 64))
    again = PreferenceHead.of(loaded.arrays)(states[:, 0], harmless.astype(float))
    np.testing.assert_array_equal(again, head(states[:, 0], harmless.astype(float)))


def test_heads_of_another_model_are_refused(tmp_path: Path) -> None:
    FittedArrays("a name", "model-1", Reading((16,), 112, 64), {"x": np.ones(1)}).save(tmp_path / "heads")
    with pytest.raises(ModelError, match="model model-1, found model model-2"):
        FittedArrays.load(tmp_path / "heads", "model-2")
    with pytest.raises(ModelError, match="No preference heads"):
        FittedArrays.load(tmp_path / "others", "model-1")
