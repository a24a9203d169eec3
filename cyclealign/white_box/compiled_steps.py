"""One-token forward passes through torch.compile, on a static cache: transformers' own way to decode fast on a GPU.

Shapes never change from token to token, so torch compiles a few programs and replays them, on a GPU as CUDA graphs,
where otherwise Python starts every kernel. Rows that ended stay in the batch for that reason. Called by `sampling`;
leaves out the prompts' pass, whose shapes differ every time.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from transformers import CompileConfig, DynamicCache, StaticCache
from transformers.cache_utils import DynamicLayer

from cyclealign.errors import ModelError
from cyclealign.white_box.pass_sizes import STATIC_CACHES, STATIC_LENGTHS
from cyclealign.white_box.sequence_scores import base_model

COMPILATION: CompileConfig | None = None
"""None: what transformers chooses, which is inductor with CUDA graphs where there are any."""


def can_compile(model: nn.Module) -> bool:
    """Whether every layer of the model has a cache that grows by one entry a token, up to any length."""
    layers = DynamicCache(config=base_model(model).config).layers
    return all(type(layer) is DynamicLayer for layer in layers)


def compiled_steps_of(model: nn.Module, name: str, *, packed: bool) -> "CompiledSteps | None":
    """The compiled passes of a model that takes packed rows (4-D masks, positions); None, with a warning, of others."""
    if packed and can_compile(model):
        return CompiledSteps(model)
    warnings.warn(
        f"{name} cannot be sampled from with compiled passes: it has layers without a static cache, or takes no "
        "4-D masks. It is sampled from as with the engine transformers.",
        stacklevel=2,
    )
    return None


class CompiledSteps:
    """The passes of a model behind its prompts' pass; one user at a time.

    Args:
        model: A causal LM in evaluation mode that takes 4-D masks and positions, and that `can_compile`; may be
            wrapped by peft.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._base = base_model(model)
        self._pass = self._base.get_compiled_call(COMPILATION)
        self._caches: dict[tuple[int, int], StaticCache] = {}
        self._cache: StaticCache
        self._mask: Tensor

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
        else:
            return logits[:, -1]
        raise ModelError(
            f"sampling.engine = compiled: torch cannot compile the model's passes on this machine: {problem} "
            "Expected a C++ compiler on a CPU, Triton on a GPU. Install it, or set sampling.engine=transformers."
        )

    def _cache_of(self, rows: int, length: int) -> StaticCache:
        cache = self._caches.pop((rows, length), None) or StaticCache(self._base.config, max_cache_len=length)
        self._caches[rows, length] = cache  # the last is the one used last
        while len(self._caches) > STATIC_CACHES:
            self._caches.pop(next(iter(self._caches)))
        return cache
