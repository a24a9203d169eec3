"""Log-probabilities: gather, sum and normalisation, by hand and against cross-entropy."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cyclealign.method.log_probabilities import confidence, response_log_probabilities, token_log_probabilities


def test_a_tokens_log_probability_is_that_of_the_softmax() -> None:
    """Logits log 1, log 2, log 5 are probabilities 1/8, 2/8, 5/8; targets 2 and 0. Huge logits give no NaN."""
    logits = torch.tensor([[1.0, 2.0, 5.0], [1.0, 2.0, 5.0]]).log()
    found = token_log_probabilities(logits, torch.tensor([2, 0]))
    assert found.tolist() == pytest.approx([math.log(5 / 8), math.log(1 / 8)])
    assert token_log_probabilities(torch.tensor([[1e30, 0.0]]), torch.tensor([0])).item() == 0


@given(st.integers(1, 20), st.integers(2, 50), st.integers(0, 2**31))
def test_it_is_gathered_from_the_log_softmax(tokens: int, vocabulary: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 10 * torch.randn(tokens, vocabulary, generator=generator)
    targets = torch.randint(vocabulary, (tokens,), generator=generator)
    gathered = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    assert torch.allclose(token_log_probabilities(logits, targets), gathered, atol=1e-5)


def test_half_precision_logits_are_normalised_in_float32() -> None:
    """In bfloat16 the sum over 10,000 equal logits would come out as 256."""
    logits = torch.zeros(1, 10_000, dtype=torch.bfloat16)
    found = token_log_probabilities(logits, torch.tensor([0]))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(-math.log(10_000))


def test_tokens_are_summed_into_their_responses_in_any_order() -> None:
    """Response 0 has -1 and -3, response 1 has -2, -0.5 and -0.5, response 2 has none."""
    total, tokens = response_log_probabilities(
        torch.tensor([-1.0, -2.0, -3.0, -0.5, -0.5]), torch.tensor([0, 1, 0, 1, 1]), responses=3
    )
    assert total.tolist() == [-4.0, -3.0, 0.0]
    assert tokens.tolist() == [2, 3, 0]


def test_each_tokens_gradient_is_that_of_its_response() -> None:
    p = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    total, tokens = response_log_probabilities(p, torch.tensor([0, 1, 0]), responses=2)
    weighted = (confidence(total, tokens, "mean") * torch.tensor([1.0, 10.0])).sum()
    assert torch.autograd.grad(weighted, p)[0].tolist() == [0.5, 10.0, 0.5]


def test_confidence_is_per_token_or_of_the_whole() -> None:
    """A long response loses by its sum and wins by its mean; without tokens it has no mean."""
    total, tokens = torch.tensor([-2.0, -3.0]), torch.tensor([1, 6])
    assert confidence(total, tokens, "mean").tolist() == [-2.0, -0.5]
    assert confidence(total, tokens, "sum").tolist() == [-2.0, -3.0]
    with pytest.raises(ValueError, match=r"\[1, 0\] tokens"):
        confidence(torch.tensor([-1.0, 0.0]), torch.tensor([1, 0]), "mean")
