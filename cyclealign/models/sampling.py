"""The decoding loop: l responses per prompt from one prefill, with randomness that belongs to the prompt.

Each prompt draws its uniforms from its own seed before the first token, and a token is the inverse of the
cumulative distribution at its uniform. So what a prompt gets depends neither on the prompts beside it nor on
the device's random state. Called by `white_box`; leaves out text (`prompt_format`), merged weights (`weights`)
and sampling by another engine (`vllm_server`).
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from cyclealign.errors import ModelError
from cyclealign.models.key_value_cache import spread_over_responses
from cyclealign.models.sequence_scores import base_model
from cyclealign.sampling_settings import SamplingSettings

_END_CHECK_EVERY = 8
"""Steps between looks for an end that is text and not a token; ends found late are cut afterwards anyway."""
_DROP_AT_SHARE = 0.75
"""Rows that ended leave the batch when no more than this share still runs: copying the cache costs."""


@dataclass(frozen=True, slots=True)
class Ends:
    """What ends a response: one of these token ids, or `has_ended` of its tokens (looked at now and then)."""

    stop_ids: tuple[int, ...]
    has_ended: Callable[[Sequence[int]], bool]


def no_server(*_: object) -> NoReturn:
    """Stands where a white box was given no server to sample with.

    Raises:
        ModelError: always.
    """
    raise ModelError(
        "The settings have another engine sample (sampling.engine), but this white box was given no server. Expected "
        "the engine transformers here."
    )


def draw_uniforms(seeds: Sequence[int], responses: int, max_new_tokens: int) -> Tensor:
    """[B·l, T] float64 uniforms in [0, 1) on the CPU, l rows from each of the B prompts' seeds."""
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        rows.append(torch.rand(responses, max_new_tokens, generator=generator, dtype=torch.float64))
    return torch.cat(rows)


def choose_tokens(logits: Tensor, uniforms: Tensor, sampling: SamplingSettings) -> Tensor:
    """The next token of each of N rows: the inverse CDF of the tempered distribution at its uniform.

    Args:
        logits: [N, V], any floating dtype.
        uniforms: [N], float64 in [0, 1); unused at temperature 0, which is greedy.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.float() / sampling.temperature, -1)
    if sampling.top_p < 1:
        probabilities = _nucleus(probabilities, sampling.top_p)
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    # Scaled by the sum, so that rounding (and the nucleus' missing mass) never points behind the last token.
    points = uniforms[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, points, right=True)[:, 0].clamp_max(logits.shape[-1] - 1)


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """The most probable tokens until their mass reaches `top_p`, the others at 0; not normalised again."""
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    mass_before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(probabilities).scatter(-1, order, ordered.where(mass_before < top_p, 0.0))


@torch.no_grad()  # not inference_mode: ZeRO-3 partitions weights again behind each forward pass
def decode(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    uniforms: Tensor,
    sampling: SamplingSettings,
    ends: Ends,
) -> list[list[int]]:
    """Sampled tokens of B·l rows in prompt order, each up to its stop token (included) or the length limit.

    Args:
        model: A causal LM in evaluation mode; may be wrapped by peft.
        prompts: B prompts of at least one token.
        uniforms: [B·l, T] from `draw_uniforms`.
    """
    rows, length = uniforms.shape
    decoding = _Decoding(model, prompts, rows // len(prompts), room=length)
    uniforms = uniforms.to(decoding.logits.device)
    stop_ids = torch.tensor(ends.stop_ids, device=uniforms.device)
    sampled: list[list[int]] = [[] for _ in uniforms]
    running = list(range(len(sampled)))  # which row of `sampled` each row of the batch writes
    ended = [False] * len(sampled)
    for step in range(length):
        tokens = choose_tokens(decoding.logits, uniforms[running, step], sampling)
        stops = torch.isin(tokens, stop_ids).tolist()
        for row, token, stop in zip(running, tokens.tolist(), stops, strict=True):
            if not ended[row]:
                sampled[row].append(token)
                ended[row] = stop or (step % _END_CHECK_EVERY == 0 and ends.has_ended(sampled[row]))
        keep = [index for index, row in enumerate(running) if not ended[row]]
        if not keep or step + 1 == length:
            break
        if len(keep) <= _DROP_AT_SHARE * len(running):
            decoding.keep(keep)
            tokens, running = tokens[keep], [running[index] for index in keep]
        decoding.advance(tokens)
    return sampled


class _Decoding:
    """The key/value cache of N = B·l rows, and the logits [N, V] for their next tokens."""

    def __init__(
        self, model: nn.Module, prompts: Sequence[Sequence[int]], responses: int, *, room: int
    ) -> None:
        self._model = model
        device = next(model.parameters()).device
        self._accepted = inspect.signature(base_model(model).forward).parameters
        width = max(map(len, prompts))
        token_ids = torch.zeros(len(prompts), width, dtype=torch.int64)
        self._mask = torch.zeros(len(prompts), width, dtype=torch.int64)
        # Padded on the left: every row's last prompt token stands last.
        for row, prompt in enumerate(prompts):
            token_ids[row, width - len(prompt) :] = torch.tensor(prompt)
            self._mask[row, width - len(prompt) :] = 1
        self._mask = self._mask.to(device)
        positions = (self._mask.cumsum(-1) - 1).clamp_min(0)
        output = self._forward(token_ids.to(device), positions, None)
        self._cache = output.past_key_values
        spread_over_responses(self._cache, responses, room)
        self._mask = self._mask.repeat_interleave(responses, 0)
        self._lengths = self._mask.sum(-1)
        self.logits: Tensor = output.logits[:, -1].repeat_interleave(responses, 0)

    def advance(self, tokens: Tensor) -> None:
        """Appends one token [N] to every row."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], 1)
        output = self._forward(tokens[:, None], self._lengths[:, None], self._cache)
        self._lengths = self._lengths + 1
        self.logits = output.logits[:, -1]

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all rows but these."""
        index = torch.tensor(rows, device=self._mask.device)
        self._cache.batch_select_indices(index)
        self._mask, self._lengths = self._mask[index], self._lengths[index]

    def _forward(self, token_ids: Tensor, positions: Tensor, cache: Any) -> Any:
        # Some architectures (ALiBi) know no positions besides the mask's.
        optional = {"position_ids": positions, "logits_to_keep": 1}
        return self._model(
            input_ids=token_ids,
            attention_mask=self._mask,
            past_key_values=cache,
            use_cache=True,
            **{name: value for name, value in optional.items() if name in self._accepted},
        )
