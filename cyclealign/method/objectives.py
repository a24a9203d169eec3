"""What the white-box model is trained on: L = L_rank + λ·L_sft, with L_rank of RRHF or PRO.

Each is a function of p, the mean log-probabilities of one prompt's responses in order of preference, best
first, in nats per token. None averages over prompts; λ is the caller's. Paper: Section 2.3.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, assert_never

import torch
from torch import Tensor

Objective = Literal["rrhf", "pro", "none"]


class PreferenceOrder(NamedTuple):
    """Indices of the responses that L_rank orders, best first, and of y¹, the target of L_sft."""

    preference: tuple[int, ...]
    target: int


def preference_order(
    ranking: Sequence[int], rewrite: Literal["head", "sft_only", "off"], rewrite_index: int
) -> PreferenceOrder:
    """Where the black-box model's rewrite takes part in training.

    Args:
        ranking: The black-box ranking of the candidates, best first.
        rewrite: `head`: the rewrite is y¹ and stands before all candidates; `sft_only`: it is y¹ and is
            not ranked; `off`: the best candidate is y¹.
        rewrite_index: The rewrite's index among the responses.

    Raises:
        ValueError: the rewrite is off and the ranking is empty, so nothing can be y¹.
    """
    if rewrite == "head":
        return PreferenceOrder((rewrite_index, *ranking), rewrite_index)
    if rewrite == "sft_only":
        return PreferenceOrder(tuple(ranking), rewrite_index)
    if not ranking:
        raise ValueError("Found an empty ranking and no rewrite, expected a response to be the SFT target.")
    return PreferenceOrder(tuple(ranking), ranking[0])


def rank_loss(objective: Objective, p: Tensor) -> Tensor:
    """L_rank of responses whose order alone is known; p: [n], best first. 0 for fewer than two responses."""
    if objective == "rrhf":
        return rrhf_loss(p)
    if objective == "pro":
        return pro_loss(p)
    if objective == "none":
        return p.sum() * 0.0  # stays in the graph, so that backward() works
    assert_never(objective)


def sft_loss(p_target: Tensor) -> Tensor:
    """L_sft = −p(y¹): the mean negative log-likelihood per token of the target. Paper: Eq. 2."""
    return -p_target


def rrhf_loss(p: Tensor) -> Tensor:
    """RRHF: the sum of max(0, p_j − p_i) over all pairs with i preferred to j.

    A pair in the right order costs nothing. p: [n], best first; 0 for fewer than two responses.
    """
    gaps = p[None, :] - p[:, None]  # gaps[i, j] = p_j − p_i
    return torch.relu(gaps).triu(diagonal=1).sum()


def pro_loss(p: Tensor, rewards: Tensor | None = None) -> Tensor:
    """PRO: each response in turn against all worse ones, −Σ_k log(exp(p_k/T_k^k) / Σ_{i≥k} exp(p_i/T_k^i)).

    With rankings alone every T is 1. With rewards T_k^i = 1/(r_k − r_i) and T_k^k is the smallest of them, so
    the closer two rewards, the less the pair counts. Equal rewards are the limit: 1/T = 0, the pair has no
    gradient.

    Args:
        p: [n], best first; the loss is 0 for fewer than two responses.
        rewards: [n], falling, or None.

    Raises:
        ValueError: the rewards are not sorted best first (they would train backwards), or not as many as p.
    """
    scaled = p.expand(len(p), -1) if rewards is None else p * _inverse_temperatures(p, rewards)
    worse_or_same = torch.ones_like(scaled, dtype=torch.bool).triu()
    chosen = scaled.diagonal()[:-1]
    # logsumexp rather than log(sum(exp)): at large |p / T| the quotient loses the gradient or its sign
    against = scaled.masked_fill(~worse_or_same, -torch.inf)[:-1].logsumexp(dim=1)
    return (against - chosen).sum()


def _inverse_temperatures(p: Tensor, rewards: Tensor) -> Tensor:
    """1 / T_k^i as [n, n], row k; entries with i < k are not used."""
    if rewards.shape != p.shape or not bool((rewards.diff() <= 0).all()):  # NaN fails too
        raise ValueError(f"Found the rewards {rewards.tolist()}, expected {len(p)} of them, best first.")
    rewards = rewards.to(p)
    gaps = rewards[:, None] - rewards[None, :]
    # min T is 1 / max gap, and the largest gap of a sorted list is that to its last
    return gaps + torch.diag(rewards - rewards[-1:])
