"""The objectives: hand-worked numbers, gradient signs, and the definition written as loops."""

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cyclealign.method.objectives import Objective, preference_order, pro_loss, rank_loss, rrhf_loss, sft_loss

log_probabilities = st.lists(st.floats(-20, 0), min_size=0, max_size=9)


def gradient(loss: Callable[[Tensor], Tensor], values: list[float]) -> list[float]:
    p = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(p), p)
    slopes: list[float] = slope.tolist()
    return slopes


def rrhf_by_definition(p: list[float]) -> float:
    return sum(max(0.0, p[j] - p[i]) for i in range(len(p)) for j in range(i + 1, len(p)))


def pro_by_definition(p: list[float], rewards: list[float] | None = None) -> float:
    """The formula term by term, without any care for overflow; rewards must differ."""
    loss, n = 0.0, len(p)
    for k in range(n - 1):
        temperature = {i: 1.0 if rewards is None else 1 / (rewards[k] - rewards[i]) for i in range(k + 1, n)}
        temperature[k] = min(temperature.values())
        terms = [math.exp(p[i] / temperature[i]) for i in range(k, n)]
        loss -= math.log(terms[0] / sum(terms))
    return loss


def test_rrhf_charges_each_pair_in_the_wrong_order_by_its_gap() -> None:
    """p = -2, -1, -1.5, best first: pairs cost max(0, 1) + max(0, 0.5) + max(0, -0.5) = 1.5."""
    assert rrhf_loss(torch.tensor([-2.0, -1.0, -1.5])).item() == pytest.approx(1.5)


def test_rrhf_pushes_the_two_of_a_wrong_pair_apart_and_leaves_the_rest() -> None:
    """p = -2, -1, -1.5: the first is in two wrong pairs, each other in one."""
    assert gradient(rrhf_loss, [-2.0, -1.0, -1.5]) == [-2.0, 1.0, 1.0]
    assert gradient(rrhf_loss, [-1.0, -2.0, -3.0]) == [0.0, 0.0, 0.0]


@given(log_probabilities)
def test_rrhf_is_its_double_loop(values: list[float]) -> None:
    loss = rrhf_loss(torch.tensor(values, dtype=torch.float64))
    assert loss.item() == pytest.approx(rrhf_by_definition(values))


def test_pro_with_rankings_alone_has_temperature_one() -> None:
    """p = -1, -2, -3: log(1 + 1/e + 1/e²) + log(1 + 1/e) = 0.407606 + 0.313262 = 0.720868."""
    assert pro_loss(torch.tensor([-1.0, -2.0, -3.0])).item() == pytest.approx(0.720868, abs=1e-6)


def test_pro_with_rewards_weighs_pairs_by_their_gap() -> None:
    """p = -1, -2, -3 with rewards 3, 2, 0.

    k = 1: 1/T of the others is 1 and 3, its own the largest, 3: exponents -3, -2, -9;
    log(e^-3 / (e^-3 + e^-2 + e^-9)) = -log(1 + e + e^-6) = -1.313928.
    k = 2: 1/T = 2 for both: exponents -4, -6; -log(1 + e^-2) = -0.126928. Together 1.440856.
    """
    loss = pro_loss(torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([3.0, 2.0, 0.0]))
    assert loss.item() == pytest.approx(1.440856, abs=2e-6)


@given(log_probabilities)
def test_pro_is_its_double_loop(values: list[float]) -> None:
    loss = pro_loss(torch.tensor(values, dtype=torch.float64))
    assert loss.item() == pytest.approx(pro_by_definition(values), abs=1e-9)


@given(st.lists(st.tuples(st.floats(-9, 0), st.integers(-20, 20)), max_size=6, unique_by=lambda one: one[1]))
def test_pro_with_rewards_is_its_double_loop(pairs: list[tuple[float, int]]) -> None:
    values = [p for p, _ in pairs]
    rewards = sorted((reward / 4 for _, reward in pairs), reverse=True)
    loss = pro_loss(torch.tensor(values, dtype=torch.float64), torch.tensor(rewards))
    assert loss.item() == pytest.approx(pro_by_definition(values, rewards), abs=1e-9)


@given(st.lists(st.floats(-20, 0), min_size=2, max_size=9))
def test_pro_raises_the_best_and_lowers_the_worst(values: list[float]) -> None:
    slopes = gradient(pro_loss, values)
    assert slopes[0] < 0 < slopes[-1]
    assert sum(slopes) == pytest.approx(0, abs=1e-9)


def test_pro_keeps_the_sign_of_its_gradient_at_extremes() -> None:
    """Where exp() of all but one underflows, the slopes are still those of a softmax: -1 and 1."""
    slopes = gradient(pro_loss, [-5000.0, -1.0])
    assert slopes == [-1.0, 1.0]
    assert pro_loss(torch.tensor([-5000.0, -1.0])).item() == 4999


def test_pro_with_equal_rewards_has_no_gradient() -> None:
    """1/T is 0: each term is -log of an equal share, log 3 + log 2, whatever p is."""
    rewards = torch.tensor([0.7, 0.7, 0.7], dtype=torch.float64)
    assert gradient(lambda p: pro_loss(p, rewards), [-3.0, -1.0, -2.0]) == [0.0, 0.0, 0.0]
    assert pro_loss(torch.tensor([-3.0, -1.0, -2.0]), rewards).item() == pytest.approx(math.log(6))


def test_pro_approaches_equal_rewards_smoothly() -> None:
    p = torch.tensor([-3.0, -1.0, -2.0], dtype=torch.float64)
    close = pro_loss(p, torch.tensor([1.0 + 1e-9, 1.0, 0.0], dtype=torch.float64))
    assert close.item() == pytest.approx(pro_loss(p, torch.tensor([1.0, 1.0, 0.0])).item(), abs=1e-6)


@pytest.mark.parametrize("rewards", [[0.0, 1.0], [1.0], [1.0, 0.5, 0.0], [float("nan"), 0.0]], ids=str)
def test_pro_refuses_rewards_that_would_train_backwards(rewards: list[float]) -> None:
    with pytest.raises(ValueError, match="best first"):
        pro_loss(torch.tensor([-1.0, -2.0]), torch.tensor(rewards))


@pytest.mark.parametrize("objective", get_args(Objective))
@pytest.mark.parametrize("values", [[], [-1.5]], ids=["no response", "one response"])
def test_fewer_than_two_responses_cost_nothing_and_stay_in_the_graph(objective: Objective, values: list[float]) -> None:
    assert rank_loss(objective, torch.tensor(values)).item() == 0
    assert gradient(lambda p: rank_loss(objective, p), values) == [0.0] * len(values)
    assert pro_loss(torch.tensor(values), torch.tensor(values)).item() == 0


def test_rank_loss_is_the_objective_that_was_named() -> None:
    p = torch.tensor([-2.0, -1.0, -1.5], requires_grad=True)
    assert rank_loss("rrhf", p).item() == rrhf_loss(p).item()
    assert rank_loss("pro", p).item() == pro_loss(p).item()
    assert rank_loss("none", p).item() == 0
    assert rank_loss("none", p).requires_grad


def test_sft_raises_the_targets_log_probability() -> None:
    """Eq. 2: the mean negative log-likelihood of y¹, so its slope in p is -1."""
    assert sft_loss(torch.tensor(-1.25)).item() == 1.25
    assert gradient(lambda p: sft_loss(p[0]), [-1.25, -3.0]) == [-1.0, 0.0]


def test_the_rewrite_stands_at_the_head_aside_or_nowhere() -> None:
    assert preference_order((2, 0, 1), "head", rewrite_index=3) == ((3, 2, 0, 1), 3)
    assert preference_order((2, 0, 1), "sft_only", rewrite_index=3) == ((2, 0, 1), 3)
    assert preference_order((2, 0, 1), "off", rewrite_index=3) == ((2, 0, 1), 2)
    with pytest.raises(ValueError, match="SFT target"):
        preference_order((), "off", rewrite_index=0)
