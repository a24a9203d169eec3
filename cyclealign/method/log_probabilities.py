"""Log-probabilities of responses: the one place where targets are gathered and lengths are normalised.

Whoever scores or trains calls these three, so that a response has the same p(y) everywhere. Leaves out:
running the model, aligning logits with the tokens they predict, which both belong to the white box. Axes: N
response tokens (of all responses, in any order), V vocabulary, R responses.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def token_log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """log P(y_t | x, y_<t) of each response token, in nats and in float32 whatever the model's type.

    Args:
        logits: [N, V], row t predicting token t (already shifted).
        targets: [N], the tokens that came.

    Returns:
        [N]
    """
    return -F.cross_entropy(logits.float(), targets, reduction="none")


def response_log_probabilities(
    token_log_probabilities: Tensor, response_of_token: Tensor, responses: int
) -> tuple[Tensor, Tensor]:
    """log P(y | x) of each response, and how many tokens it has.

    Args:
        token_log_probabilities: [N], nats.
        response_of_token: [N], the index of the response that a token belongs to.
        responses: R.

    Returns:
        The sums over tokens [R], nats, and the numbers of tokens [R].
    """
    total = token_log_probabilities.new_zeros(responses)
    total = total.index_add(0, response_of_token, token_log_probabilities)
    return total, torch.bincount(response_of_token, minlength=responses)


def confidence(total: Tensor, tokens: Tensor, kind: Literal["mean", "sum"]) -> Tensor:
    """How sure the white-box model is of each response: log-probability per token, or of the whole.

    `mean` is the p(y) of all objectives. Paper: Section 2.2.

    Args:
        total: [R], nats.
        tokens: [R], of which none is 0.

    Returns:
        [R], nats per token or nats.

    Raises:
        ValueError: a response without tokens has no mean.
    """
    if kind == "sum":
        return total
    if bool((tokens == 0).any()):
        raise ValueError(f"Found responses of {tokens.tolist()} tokens, expected at least one token in each.")
    return total / tokens
