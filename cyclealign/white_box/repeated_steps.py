"""Passes of a model whose cache cannot be spread over responses: its prompts are computed once for every response.

State-space models and hybrids keep states for which transformers has neither a repetition nor a selection of rows, some
under another name than `past_key_values`. They are driven as `generate()` drives them. Called by `sampling`.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from cyclealign.white_box.sequence_scores import base_model


class RepeatedSteps:
    """One-token passes with whatever cache the model makes; rows that ended stay in the batch.

    Args:
        model: A causal LM in evaluation mode, which peft may wrap.
    """

    def __init__(self, model: nn.Module) -> None:
        warnings.warn(
            f"{type(base_model(model)).__name__} has a cache that cannot be spread over responses: prompts are "
            "computed once per response to sample from it, which is slower.",
            stacklevel=3,
        )
        self._model = model
        self._base = base_model(model)
        self._token_ids: Tensor
        self._state: dict[str, Any]

    def start(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        """The pass of N rows, padded on the left, token ids and mask [N, length]; logits [N, V] for the next token."""
        self._token_ids = token_ids
        self._state = {"attention_mask": mask, "use_cache": True}
        return self._pass(self._base.prepare_inputs_for_generation(token_ids, is_first_iteration=True, **self._state))

    def step(self, tokens: Tensor, _positions: Tensor) -> Tensor:
        """Appends a token [N] to every row; logits [N, V] for the next. Positions are the model's own."""
        self._token_ids = torch.cat([self._token_ids, tokens[:, None]], 1)
        return self._pass(
            self._base.prepare_inputs_for_generation(self._token_ids, next_sequence_length=1, **self._state)
        )

    def _pass(self, inputs: dict[str, Any]) -> Tensor:
        output = self._model(**inputs)
        self._state = self._base._update_model_kwargs_for_generation(output, self._state)
        logits: Tensor = output.logits[:, -1]
        return logits
