"""A ranking step against the published ones, and sampling against `generate`, on the same model.

A ranking step is the forward and backward pass of one prompt's loss. The peers follow the published code, without its
slips (temperatures from equal rewards, division by the padded length); losses and gradients have to be equal. PRO's
loop (https://github.com/AlibabaResearch/DAMO-ConvAI) runs one full sequence per response, RRHF's trainer
(https://github.com/GanjinZero/RRHF) all of them as one padded batch; both compute logits of the whole vocabulary for
every position. Ours is the white box's: the prompt once, logits for response tokens alone.

`generate(num_return_sequences=…)` copies the prompt before it reads it; ours reads it once. Neither stops early, so
both sides give the same number of tokens; decoded greedily they have to be the same tokens.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import made_up
from benchmarks.measuring import Row, speedups, timed_in_turn
from cyclealign.method.log_probabilities import confidence
from cyclealign.method.objectives import Objective, rank_loss, sft_loss
from cyclealign.settings import SamplingSettings
from cyclealign.white_box.sampling import Ends, decode, draw_uniforms
from cyclealign.white_box.sequence_scores import SequenceScores

REPEATS = 5
PROMPT_TOKENS, RESPONSES, RESPONSE_TOKENS, NEW_TOKENS = 256, 4, 96, 64
SFT_WEIGHT = 9.0
"""λ = (4 - 1)²."""
NEVER = Ends((), lambda _: False)


def rows(repeats: int = REPEATS, shape: Any = made_up.SMALL) -> list[Row]:
    """How many times faster a step is than PRO's loop and RRHF's batch, and sampling than `generate`."""
    model, draw = made_up.model(shape), partial(made_up.tokens, shape["vocab_size"])
    prompt = draw(PROMPT_TOKENS, "prompt")
    responses = [draw(RESPONSE_TOKENS, "response", place) for place in range(RESPONSES)]
    where = f"{shape['num_hidden_layers']} layers · {shape['hidden_size']}, {made_up.where(model)}"
    note = f"{PROMPT_TOKENS} + {RESPONSES}·{RESPONSE_TOKENS} tokens, {where}"
    found = []
    for objective, peer, bar in PEERS:
        ours = partial(learn, model, partial(our_step, model, prompt, responses, objective))
        theirs = partial(learn, model, partial(peer, model, prompt, responses))
        check_equal(ours(), theirs())
        ratios = speedups(timed_in_turn(ours, theirs, repeats))
        name = f"{objective.upper()} ranking step against the published one"
        found.append(Row(name, ratios, note=note, at_least=bar))
    return [*found, sampling(model.eval(), prompt, repeats, where)]


def sampling(model: Any, prompt: list[int], repeats: int, where: str) -> Row:
    """The row of sampling."""
    ours, theirs = (partial(way, model, prompt, RESPONSES, NEW_TOKENS) for way in (sample, generate))
    if ours(temperature=0) != theirs(temperature=0):
        raise RuntimeError("Found other greedy tokens than generate()'s, expected the same.")
    note = f"{PROMPT_TOKENS} + {NEW_TOKENS} tokens, {where}"
    ratios = speedups(timed_in_turn(ours, theirs, repeats))
    return Row("sampling 4 responses against generate()", ratios, note=note, at_least=1.3)


def learn(model: nn.Module, loss: Callable[[], Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Forward and backward; the loss and the gradients."""
    model.zero_grad(set_to_none=True)
    value = loss()
    torch.autograd.backward(value)
    return value.detach(), [one.grad for one in model.parameters() if one.grad is not None]


def check_equal(*sides: tuple[Tensor, list[Tensor]]) -> None:
    """See that both sides compute the same."""
    (ours, our_gradients), (theirs, their_gradients) = sides
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)
    for mine, peers in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(mine, peers, rtol=1e-3, atol=1e-5)


def our_step(model: nn.Module, prompt: list[int], responses: list[list[int]], objective: Objective) -> Tensor:
    """The loss as `training_step` computes it."""
    scores = SequenceScores(model, pad_id=0, packed=True)
    total, tokens = scores([(prompt, responses)])
    p = confidence(total, tokens, "mean")
    return rank_loss(objective, p) + SFT_WEIGHT * sft_loss(p[0])


def pro_step(model: nn.Module, prompt: list[int], responses: list[list[int]], sft_weight: float = SFT_WEIGHT) -> Tensor:
    """PRO's loop: a full pass per response, then each response against all that are worse, with T = 1."""
    means = []
    for response in responses:
        ids = torch.tensor([[*prompt, *response]], device=next(model.parameters()).device)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, :-1]
        values = torch.log_softmax(logits, -1).gather(-1, ids[:, 1:, None])[..., 0]
        means.append(values[0, len(prompt) - 1 :].mean())
    loss = torch.zeros((), device=means[0].device)
    for place in range(len(means) - 1):
        exponentials = torch.stack(means[place:]).exp()
        loss = loss - torch.log(exponentials[0] / exponentials.sum())
    return loss - sft_weight * means[0]


def rrhf_step(model: nn.Module, prompt: list[int], responses: list[list[int]]) -> Tensor:
    """RRHF's batch: all full sequences, padded on the right; hinges over all pairs."""
    device, longest = next(model.parameters()).device, max(map(len, responses))
    ids = torch.tensor([[*prompt, *one, *[0] * (longest - len(one))] for one in responses], device=device)
    lengths = torch.tensor([[len(prompt) + len(one)] for one in responses], device=device)
    real = (torch.arange(ids.shape[1], device=device) < lengths).long()
    logits = model(input_ids=ids, attention_mask=real, use_cache=False).logits[:, :-1]
    values = torch.log_softmax(logits, -1).gather(-1, ids[:, 1:, None])[..., 0]
    mask = real[:, 1:].clone()
    mask[:, : len(prompt) - 1] = 0
    means = (values * mask).sum(-1) / mask.sum(-1)
    gaps = means[None, :] - means[:, None]
    return gaps.clamp_min(0).triu(1).sum() - SFT_WEIGHT * means[0]


PEERS: tuple[tuple[Objective, Callable[..., Tensor], float], ...] = (("pro", pro_step, 2.3), ("rrhf", rrhf_step, 1.8))
"""Objective, its published step, and how many times faster ours has to be."""


def sample(model: Any, prompt: list[int], count: int, length: int, temperature: float = 1.0) -> list[list[int]]:
    """As the white box samples."""
    drawn = SamplingSettings(temperature=temperature, top_p=1.0, max_new_tokens=length)
    return decode(model, [prompt], draw_uniforms([0], count, length), drawn, NEVER)


@torch.no_grad()
def generate(model: Any, prompt: list[int], count: int, length: int, temperature: float = 1.0) -> list[list[int]]:
    """As transformers samples."""
    ids = torch.tensor([prompt], device=next(model.parameters()).device)
    how = {"do_sample": True, "temperature": temperature, "top_k": 0, "num_return_sequences": count}
    if not temperature:
        how, ids = {"do_sample": False}, ids.repeat(count, 1)
    found = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, eos_token_id=None, pad_token_id=0, **how
    )
    return [row[len(prompt) :] for row in found.tolist()]
