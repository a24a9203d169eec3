"""A ranking step against the published ones: forward and backward of one prompt's loss.

The peers follow the published code, without its slips (temperatures from equal rewards, division by the padded length),
so that losses and gradients have to be equal. PRO's loop (https://github.com/AlibabaResearch/DAMO-ConvAI) runs one full
sequence per response; RRHF's trainer (https://github.com/GanjinZero/RRHF) runs all of them as one padded batch. Both
compute logits of the whole vocabulary for every position, the prompt's too. Ours is what the white box trains with: the
prompt once, logits for response tokens alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measuring import seconds, side_by_side
from benchmarks.rows import Row, at_least
from cyclealign.method.log_probabilities import confidence
from cyclealign.method.objectives import Objective, rank_loss, sft_loss
from cyclealign.white_box.sequence_scores import SequenceScores

REPEATS = 5
LAYERS, WIDTH, VOCABULARY = 8, 512, 32_000
PROMPT_TOKENS, RESPONSES, RESPONSE_TOKENS = 256, 4, 96
SFT_WEIGHT = 9.0
"""λ = (4 - 1)²."""

Step = Callable[[], Tensor]
"""Computes the loss with its graph."""


@dataclass(frozen=True)
class Sizes:
    """Of the model and of the prompt with its responses, best first."""

    layers: int = LAYERS
    width: int = WIDTH
    vocabulary: int = VOCABULARY
    prompt: int = PROMPT_TOKENS
    responses: int = RESPONSES
    response: int = RESPONSE_TOKENS

    def model(self) -> Any:
        """A Llama of this size with random weights, in float32, all of them trained."""
        from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415  slow to import

        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.width * 8 // 3,
            num_hidden_layers=self.layers,
            num_attention_heads=max(1, self.width // 64),
            max_position_embeddings=1024,
        )
        return LlamaForCausalLM(config).train()

    def tokens(self) -> tuple[list[int], list[list[int]]]:
        """A prompt and its responses."""
        generator = torch.Generator().manual_seed(1)

        def draw(count: int) -> list[int]:
            return torch.randint(3, self.vocabulary, (count,), generator=generator).tolist()

        return draw(self.prompt), [draw(self.response) for _ in range(self.responses)]


def rows(repeats: int = REPEATS) -> list[Row]:
    """How many times faster one step is than PRO's loop, and than RRHF's batch."""
    sizes = Sizes()
    model, (prompt, responses) = sizes.model(), sizes.tokens()
    rows_ = []
    for objective, peer, bar in PEERS:
        ours = timed(model, partial(our_step, model, prompt, responses, objective))
        theirs = timed(model, partial(peer, model, prompt, responses))
        ours(), theirs()  # warm
        pairs = side_by_side(ours, theirs, repeats)
        note = f"{PROMPT_TOKENS} + {RESPONSES}·{RESPONSE_TOKENS} tokens, {LAYERS} layers · {WIDTH}, {where(model)}"
        ratios = tuple(theirs_s / ours_s for ours_s, theirs_s in pairs)
        rows_.append(
            Row(f"{objective.upper()} ranking step against the published one", at_least(bar), ratios, note=note)
        )
    return rows_


def timed(model: nn.Module, step: Step) -> Callable[[], float]:
    """Seconds of a step's forward and backward."""

    def work() -> None:
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(step())

    return lambda: seconds(work)


def where(model: nn.Module) -> str:
    """Where the model is."""
    device = next(model.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"


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
    device = next(model.parameters()).device
    longest = max(map(len, responses))
    ids = torch.tensor([[*prompt, *one, *[0] * (longest - len(one))] for one in responses], device=device)
    real = torch.tensor(
        [[1] * (len(prompt) + len(one)) + [0] * (longest - len(one)) for one in responses], device=device
    )
    logits = model(input_ids=ids, attention_mask=real, use_cache=False).logits[:, :-1]
    values = torch.log_softmax(logits, -1).gather(-1, ids[:, 1:, None])[..., 0]
    mask = real[:, 1:].clone()
    mask[:, : len(prompt) - 1] = 0
    means = (values * mask).sum(-1) / mask.sum(-1)
    gaps = means[None, :] - means[:, None]
    return gaps.clamp_min(0).triu(1).sum() - SFT_WEIGHT * means[0]


PEERS: tuple[tuple[Objective, Callable[..., Tensor], float], ...] = (("pro", pro_step, 2.3), ("rrhf", rrhf_step, 1.8))
"""Objective, its published step, and how many times faster ours has to be."""
