"""The decoding loop: l responses per prompt from one prefill, with randomness that belongs to the prompt.

Each prompt draws its uniforms from its own seed before the first token, and a token is the inverse of the cumulative
distribution at its uniform. So what a prompt gets depends neither on the prompts beside it nor on the device's random
state. Behind the prompts' pass go one-token passes of three kinds: over a cache that grows (`GrowingSteps`), compiled
over a cache of one size (`CompiledSteps`), and of models whose cache cannot be spread over responses (`RepeatedSteps`).
Called by `white_box`; leaves out text (`prompt_format`), merged weights (`weights`) and vLLM (`vllm_server`).
"""

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from transformers import CompileConfig, DynamicCache, StaticCache
from transformers.cache_utils import DummyLayer, DynamicLayer, LinearAttentionCacheLayerMixin

from cyclealign.errors import ModelError
from cyclealign.model_sizes import STATIC_CACHES, STATIC_LENGTHS
from cyclealign.settings import SamplingSettings
from cyclealign.white_box.sequence_scores import base_model

COMPILATION: CompileConfig | None = None
"""None: what transformers chooses, which is inductor with CUDA graphs where there are any."""
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
    model: "nn.Module | CompiledSteps",
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
    model: "nn.Module | CompiledSteps", prompts: Sequence[Sequence[int]], responses: int, room: int
) -> tuple["CompiledSteps | GrowingSteps | RepeatedSteps", Tensor, Tensor]:
    """The prompts' pass: how to go on, logits [N, V] for the first tokens of N = B·l rows, their mask [N, length]."""
    steps = model if isinstance(model, CompiledSteps) else GrowingSteps(model)
    token_ids, mask = _padded_on_the_left(prompts, next(steps.model.parameters()).device)
    rows_mask = mask.repeat_interleave(responses, 0)
    if not _can_be_spread(steps.model):
        repeated = RepeatedSteps(steps.model)
        return repeated, repeated.start(token_ids.repeat_interleave(responses, 0), rows_mask), rows_mask
    output = _forward(steps.model, token_ids, mask, (mask.cumsum(-1) - 1).clamp_min(0), None)
    steps.start(output.past_key_values, rows_mask, responses, room)
    return steps, output.logits[:, -1].repeat_interleave(responses, 0), rows_mask


def _padded_on_the_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
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
    accepted = _arguments_of(model)
    return model(
        input_ids=token_ids,
        attention_mask=mask,
        past_key_values=so_far,
        use_cache=True,
        **{name: value for name, value in optional.items() if name in accepted},
    )


def _arguments_of(model: nn.Module) -> frozenset[str]:
    """Names of the arguments of the model's own pass."""
    return _parameters(type(base_model(model)).forward)


@cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _can_be_spread(model: nn.Module) -> bool:
    """Whether rows of the model's cache can be repeated and selected: keys and values alone, no recurrent states."""
    return "past_key_values" in _arguments_of(model) and all(
        isinstance(layer, DynamicLayer | DummyLayer) and not isinstance(layer, LinearAttentionCacheLayerMixin)
        for layer in DynamicCache(config=base_model(model).config).layers
    )


class GrowingSteps:
    """One-token passes over a cache that grows by a token a pass and shrinks by the rows that ended.

    Args:
        model: A causal LM in evaluation mode, which peft may wrap.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def start(self, prompts: Any, mask: Tensor, responses: int, room: int) -> None:
        """Make the prompts' cache that of N rows; see `CompiledSteps.start`.

        Layers of another kind than plain (sliding windows) are repeated by their own method and grow by copying.
        """
        self._cache, self._mask = prompts, mask
        for index, layer in enumerate(prompts.layers):
            if type(layer) is DynamicLayer:
                prompts.layers[index] = RoomyLayer(layer.keys, layer.values, responses, room)
            else:
                layer.batch_repeat_interleave(responses)

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


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values [N, heads, length, width], views of buffers with room for the tokens to come.

    transformers' own layer copies both for every token, a noticeable share of the time that a small model takes.

    Args:
        keys: [B, heads, length, width] of the prompts, as `values`.
        responses: How many rows each prompt becomes: N = B · responses.
        room: Tokens that will follow.
    """

    def __init__(self, keys: Tensor, values: Tensor, responses: int, room: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._all_keys, self._all_values = (_spread(tensor, responses, room) for tensor in (keys, values))
        self._show(keys.shape[-2])

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Writes the new tokens' keys and values [N, heads, new, width] and returns all up to them."""
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        self._all_keys[..., start:end, :] = key_states
        self._all_values[..., start:end, :] = value_states
        self._show(end)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps these rows alone."""
        self._all_keys, self._all_values = self._all_keys[indices], self._all_values[indices]
        self._show(self.keys.shape[-2])

    def _show(self, length: int) -> None:
        self.keys, self.values = self._all_keys[..., :length, :], self._all_values[..., :length, :]


def _spread(tensor: Tensor, responses: int, room: int) -> Tensor:
    prompts, heads, length, width = tensor.shape
    spread = tensor.new_empty(prompts * responses, heads, length + room, width)
    spread.view(prompts, responses, heads, length + room, width)[..., :length, :] = tensor[:, None]
    return spread


class RepeatedSteps:
    """One-token passes with whatever cache the model makes; rows that ended stay in the batch.

    State-space models and hybrids keep states for which transformers has neither a repetition nor a selection of rows,
    some under another name than `past_key_values`. So prompts are computed once per response, as `generate()` does.

    Args:
        model: A causal LM in evaluation mode, which peft may wrap.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model, self._base = model, base_model(model)
        warnings.warn(
            f"{type(self._base).__name__} has a cache that cannot be spread over responses: prompts are "
            "computed once per response to sample from it, which is slower.",
            stacklevel=3,
        )

    def start(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        """The pass of N rows, padded on the left, token ids and mask [N, length]; logits [N, V] for the next token."""
        self._token_ids = token_ids
        self._state: dict[str, Any] = {"attention_mask": mask, "use_cache": True}
        return self._pass(is_first_iteration=True)

    def step(self, tokens: Tensor, _positions: Tensor) -> Tensor:
        """Appends a token [N] to every row; logits [N, V] for the next. Positions are the model's own."""
        self._token_ids = torch.cat([self._token_ids, tokens[:, None]], 1)
        return self._pass(next_sequence_length=1)

    def _pass(self, **which: Any) -> Tensor:
        output = self._model(**self._base.prepare_inputs_for_generation(self._token_ids, **which, **self._state))
        self._state = self._base._update_model_kwargs_for_generation(output, self._state)
        logits: Tensor = output.logits[:, -1]
        return logits


class CompiledSteps:
    """One-token passes through torch.compile on a static cache: transformers' own way to decode fast on a GPU.

    Shapes never change from token to token, so torch compiles a few programs and replays them, on a GPU as CUDA graphs,
    where otherwise Python starts every kernel. Rows that ended stay in the batch for that reason. One user at a time.

    Args:
        model: A causal LM in evaluation mode, which peft may wrap; made by `of` where it can be compiled.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self._base = model, base_model(model)
        self._pass = self._base.get_compiled_call(COMPILATION)
        self._caches: dict[tuple[int, int], StaticCache] = {}

    @classmethod
    def of(cls, model: nn.Module, name: str, *, packed: bool) -> "CompiledSteps | None":
        """The passes of a model that takes packed rows (so 4-D masks and positions); None, with a warning, of others.

        Every layer must have a cache that grows by one entry a token, up to any length.
        """
        layers = DynamicCache(config=base_model(model).config).layers
        if packed and all(type(layer) is DynamicLayer for layer in layers):
            return cls(model)
        warnings.warn(
            f"{name} cannot be sampled from with compiled passes: it has layers without a static cache, or takes no "
            "4-D masks. It is sampled from as with the engine transformers.",
            stacklevel=2,
        )
        return None

    def start(self, prompts: Any, mask: Tensor, responses: int, room: int) -> None:
        """Lay out the cache of N = B·l rows, with room behind it.

        Args:
            prompts: The cache of the pass of B prompts.
            mask: [N, length], 1 where a row has a token.
            responses: l, the rows of each prompt.
            room: Tokens that will follow.
        """
        rows, length = mask.shape
        whole = -(-(length + room) // STATIC_LENGTHS) * STATIC_LENGTHS
        self._cache = self._cache_of(rows, whole)
        for layer, prompt_layer in zip(self._cache.layers, prompts.layers, strict=True):
            layer.reset()
            layer.update(*(each.repeat_interleave(responses, 0) for each in (prompt_layer.keys, prompt_layer.values)))
        self._filled = length
        # additive: every kind of attention takes it
        self._mask = torch.full(
            (rows, 1, 1, whole), torch.finfo(self._base.dtype).min, dtype=self._base.dtype, device=mask.device
        )
        self._mask[:, 0, 0, :length].masked_fill_(mask.bool(), 0.0)

    def step(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Appends a token to every row; logits [N, V] for the next, valid until the next call.

        Args:
            tokens: [N].
            positions: [N], each row's number of tokens so far.

        Raises:
            ModelError: the pass cannot be compiled here.
        """
        self._mask[..., self._filled] = 0.0
        self._filled += 1
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        try:
            logits: Tensor = self._pass(
                input_ids=tokens[:, None],
                attention_mask=self._mask,
                position_ids=positions[:, None],
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
        except TorchDynamoException as error:
            problem = " ".join(str(error).split())[:300]
            raise ModelError(
                f"sampling.engine = compiled: torch cannot compile the model's passes on this machine: {problem} "
                "Expected a C++ compiler on a CPU, Triton on a GPU. Install it, or set sampling.engine=transformers."
            ) from None
        return logits[:, -1]

    def _cache_of(self, rows: int, length: int) -> StaticCache:
        cache = self._caches.pop((rows, length), None) or StaticCache(self._base.config, max_cache_len=length)
        self._caches[rows, length] = cache  # the last is the one used last
        while len(self._caches) > STATIC_CACHES:
            self._caches.pop(next(iter(self._caches)))
        return cache
