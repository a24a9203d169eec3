"""A key/value cache for l responses per prompt that is laid out once, instead of copied for every token.

transformers' dynamic cache concatenates keys and values in every layer at every step, a noticeable share of
the time that a small model takes to decode. Called by `sampling`; leaves every other kind of cache layer as
it is.
"""

import inspect
from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DummyLayer, DynamicLayer, LinearAttentionCacheLayerMixin

from cyclealign.white_box.sequence_scores import base_model


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values [N, heads, length, width], views of buffers with room for the tokens to come.

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


def can_be_spread(model: nn.Module) -> bool:
    """Whether rows of the model's cache can be repeated and selected: keys and values alone, no recurrent states."""
    base = base_model(model)
    return "past_key_values" in inspect.signature(type(base).forward).parameters and all(
        isinstance(layer, DynamicLayer | DummyLayer) and not isinstance(layer, LinearAttentionCacheLayerMixin)
        for layer in DynamicCache(config=base.config).layers
    )


def spread_over_responses(cache: Any, responses: int, room: int) -> None:
    """Turns the cache of B prompts into one of B · `responses` rows, in place, with room for `room` more tokens.

    The cache is that of a model that `can_be_spread`. Layers of another kind (sliding windows) are repeated by their
    own method and go on growing.
    """
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[index] = RoomyLayer(layer.keys, layer.values, responses, room)
        else:
            layer.batch_repeat_interleave(responses)


def _spread(tensor: Tensor, responses: int, room: int) -> Tensor:
    prompts, heads, length, width = tensor.shape
    spread = tensor.new_empty(prompts * responses, heads, length + room, width)
    spread.view(prompts, responses, heads, length + room, width)[..., :length, :] = tensor[:, None]
    return spread
