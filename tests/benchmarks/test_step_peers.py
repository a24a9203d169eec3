"""The benchmarks' peers compute the same as what they are held against."""

import pytest
import torch

from benchmarks.ranking_steps import Sizes, our_step, pro_step, rrhf_step
from benchmarks.shared_prefix import generate, sample

SMALL = Sizes(layers=2, width=64, vocabulary=97, prompt=11, responses=4, response=7)


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])


@pytest.mark.parametrize(("objective", "peer"), [("pro", pro_step), ("rrhf", rrhf_step)])
def test_a_published_step_has_the_same_loss_and_gradients(objective: str, peer: object) -> None:
    model, (prompt, responses) = SMALL.model(), SMALL.tokens()
    responses = [one[: len(one) - place] for place, one in enumerate(responses)]  # of different lengths
    ours = our_step(model, prompt, responses, objective)
    ours_gradients = gradients(model, ours)
    theirs = peer(model, prompt, responses)  # type: ignore[operator]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    torch.testing.assert_close(ours_gradients, gradients(model, theirs), rtol=1e-4, atol=1e-6)


def test_both_ways_of_sampling_choose_the_same_tokens_where_nothing_is_drawn() -> None:
    model, (prompt, _) = SMALL.model().eval(), SMALL.tokens()
    assert sample(model, prompt, 3, 9, temperature=0) == generate(model, prompt, 3, 9, temperature=0)


def test_both_ways_of_sampling_give_as_many_tokens() -> None:
    model, (prompt, _) = SMALL.model().eval(), SMALL.tokens()
    for found in (sample(model, prompt, 3, 9), generate(model, prompt, 3, 9)):
        assert [len(one) for one in found] == [9, 9, 9]
