"""The decoding loop: l responses per prompt from one prefill, with randomness that belongs to the prompt.

Each prompt draws its uniforms from its own seed before the first token, and a token is the inverse of the
cumulative distribution at its uniform. So what a prompt gets depends neither on the prompts beside it nor on
the device's random state. Called by `white_box`; leaves out text (`prompt_format`), merged weights (`weights`),
how a compiled pass is made (`compiled_steps`) and sampling by another engine (`vllm_server`).
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from cyclealign.errors import ModelError
from cyclealign.sampling_settings import SamplingSettings
from cyclealign.white_box.compiled_steps import CompiledSteps
from cyclealign.white_box.key_value_cache import can_be_spread, spread_over_responses
from cyclealign.white_box.repeated_steps import RepeatedSteps
from cyclealign.white_box.sequence_scores import base_model

_END_CHECK_EVERY = 8
"""Steps between looks for an end that is text and not a token; ends found late are cut afterwards anyway."""
_HEAD = 2048
"""Most probable tokens among which a nucleus is looked for first."""
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
    """The most probable tokens until their mass reaches `top_p`, the others at 0; not normalised again.

    Of equally probable tokens the first ones. Nearly always some hundred tokens are enough, and to find those costs a
    fraction of sorting the whole vocabulary; rows that need more, or of equal ones some, are sorted.
    """
    if probabilities.shape[-1] <= 2 * _HEAD:
        return _sorted_nucleus(probabilities, top_p)
    ordered = probabilities.topk(_HEAD).values
    size = (ordered.cumsum(-1) - ordered < top_p).sum(-1, keepdim=True)
    chosen = probabilities >= ordered.gather(-1, (size - 1).clamp_min(0))  # 0: a broken model says nan
    nucleus = probabilities.where(chosen, 0.0)
    to_sort = ((size == _HEAD) | (chosen.sum(-1, keepdim=True) > size))[:, 0].nonzero()[:, 0]
    if len(to_sort):
        nucleus[to_sort] = _sorted_nucleus(probabilities[to_sort], top_p)
    return nucleus


def _sorted_nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    mass_before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(probabilities).scatter(-1, order, ordered.where(mass_before < top_p, 0.0))


@torch.no_grad()  # not inference_mode: ZeRO-3 partitions weights again behind each forward pass
def decode(
    model: nn.Module | CompiledSteps,
    prompts: Sequence[Sequence[int]],
    uniforms: Tensor,
    sampling: SamplingSettings,
    ends: Ends,
) -> list[list[int]]:
    """Sampled tokens of B·l rows in prompt order, each up to its stop token (included) or the length limit.

    Args:
        model: A causal LM in evaluation mode, which peft may wrap, or the compiled passes of one.
        prompts: B prompts of at least one token.
        uniforms: [B·l, T] from `draw_uniforms`.
    """
    rows, length = uniforms.shape
    steps, logits, mask = _begin(model, prompts, rows // len(prompts), room=length)
    lengths, uniforms = mask.sum(-1), uniforms.to(logits.device)
    stop_ids = torch.tensor(ends.stop_ids, device=uniforms.device)
    sampled: list[list[int]] = [[] for _ in uniforms]
    running = list(range(len(sampled)))  # which row of `sampled` each row of the batch writes
    ended = [False] * len(sampled)
    for step in range(length):
        tokens = choose_tokens(logits, uniforms[running, step], sampling)
        stops = torch.isin(tokens, stop_ids).tolist()
        for row, token, stop in zip(running, tokens.tolist(), stops, strict=True):
            if not ended[row]:
                sampled[row].append(token)
                ended[row] = stop or (step % _END_CHECK_EVERY == 0 and ends.has_ended(sampled[row]))
        keep = [index for index, row in enumerate(running) if not ended[row]]
        if not keep or step + 1 == length:
            break
        if isinstance(steps, GrowingSteps) and len(keep) <= _DROP_AT_SHARE * len(running):
            steps.keep(keep)
            tokens, lengths, running = tokens[keep], lengths[keep], [running[index] for index in keep]
        logits = steps.step(tokens, lengths)
        lengths = lengths + 1
    return sampled


def _begin(
    model: nn.Module | CompiledSteps, prompts: Sequence[Sequence[int]], responses: int, room: int
) -> tuple["CompiledSteps | GrowingSteps | RepeatedSteps", Tensor, Tensor]:
    """The prompts' pass: how to go on, logits [N, V] for the first tokens of N = B·l rows, their mask [N, length]."""
    steps = model if isinstance(model, CompiledSteps) else GrowingSteps(model)
    token_ids, mask = padded_on_the_left(prompts, next(steps.model.parameters()).device)
    rows_mask = mask.repeat_interleave(responses, 0)
    if not can_be_spread(steps.model):
        repeated = RepeatedSteps(steps.model)
        return repeated, repeated.start(token_ids.repeat_interleave(responses, 0), rows_mask), rows_mask
    output = _forward(steps.model, token_ids, mask, (mask.cumsum(-1) - 1).clamp_min(0), None)
    steps.start(output.past_key_values, rows_mask, responses, room)
    return steps, output.logits[:, -1].repeat_interleave(responses, 0), rows_mask


def padded_on_the_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask [B, length]: every row's last prompt token stands last."""
    width = max(map(len, prompts))
    token_ids, mask = torch.zeros(2, len(prompts), width, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        token_ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return token_ids.to(device), mask.to(device)


def _forward(model: nn.Module, token_ids: Tensor, mask: Tensor, positions: Tensor, so_far: Any) -> Any:
    # Some architectures (ALiBi) know no positions besides the mask's.
    optional = {"position_ids": positions, "logits_to_keep": 1}
    accepted = _parameters_of(type(base_model(model)))  # type: ignore[arg-type]  # to mypy no class is hashable
    return model(
        input_ids=token_ids,
        attention_mask=mask,
        past_key_values=so_far,
        use_cache=True,
        **{name: value for name, value in optional.items() if name in accepted},
    )


@cache
def _parameters_of(kind: type[nn.Module]) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)


class GrowingSteps:
    """One-token passes over a cache that grows by a token a pass and shrinks by the rows that ended.

    Args:
        model: A causal LM in evaluation mode, which peft may wrap.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def start(self, prompts: Any, mask: Tensor, responses: int, room: int) -> None:
        """Take the prompts' cache and make it that of N rows; see `CompiledSteps.start`."""
        self._cache, self._mask = prompts, mask
        spread_over_responses(prompts, responses, room)

    def step(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Appends a token [N] to every row at its position [N]; logits [N, V] for the next."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], 1)
        logits: Tensor = _forward(self.model, tokens[:, None], self._mask, positions[:, None], self._cache).logits
        return logits[:, -1]

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all rows but these."""
        index = torch.tensor(rows, device=self._mask.device)
        self._cache.batch_select_indices(index)
        self._mask = self._mask[index]
