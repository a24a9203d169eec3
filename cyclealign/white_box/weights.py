"""The adapter's tensors: their names, their digest, their merged form while sampling. And the model's: their release.

Names are peft's own, those in `adapter_model.safetensors`. Called by `white_box` and `training_engine`;
leaves out files (`checkpoint_files`) and the optimizer (`training_engine`).
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from cyclealign.errors import ModelError


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The adapter's parameters by peft's names, sorted; empty for a model without an adapter."""
    named = {name: parameter for name, parameter in model.named_parameters() if ".lora_" in name}
    return {name.replace(".default", ""): named[name] for name in sorted(named)}


def sha256_of(tensors: Mapping[str, Tensor]) -> str:
    """Digest over name, dtype, shape and bytes of each tensor, in order of names; devices do not matter."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1f".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def lora_shape(model: Any) -> dict[str, Any] | None:
    """Rank and alpha of the adapter, which its tensors do not tell; None without one."""
    if not hasattr(model, "peft_config"):
        return None
    config = model.peft_config["default"]
    return {"rank": config.r, "alpha": config.lora_alpha}


def can_merge(model: Any) -> bool:
    """Whether sampling may run on merged weights.

    Only in float32: in bfloat16 a small adapter would vanish in the rounding of the sum. Never where the
    adapter sits on a weight that the input embedding shares, which merging would change along, nor on a 4-bit
    weight, which merging would quantise anew.
    """
    layers = _adapted_layers(model)
    embedding = model.get_base_model().get_input_embeddings().weight if layers else None
    weights = [layer.get_base_layer().weight for layer in layers]
    return bool(layers) and all(
        weight.dtype == torch.float32 and weight is not embedding and not hasattr(weight, "quant_state")
        for weight in weights
    )


@contextmanager
def merged_adapter(model: Any) -> Iterator[None]:
    """Adds the adapter to the weights it sits on for the duration, then puts the original tensors back.

    Merging and unmerging by arithmetic does not return to the same bits; putting the originals back does.
    Costs one more copy of the adapted weights.
    """
    layers = _adapted_layers(model)
    originals = [layer.get_base_layer().weight.data for layer in layers]
    try:
        model.merge_adapter(safe_merge=True)  # "safe": into a new tensor, the original stays as it is
        yield
    finally:
        for layer, original in zip(layers, originals, strict=True):
            layer.get_base_layer().weight.data = original
            layer.merged_adapters.clear()


def refuse_dropout(model: nn.Module, name: str) -> None:
    """On several ranks each would drop other units, and results would depend on their number.

    Raises:
        ModelError: training would turn on a dropout of the model, which the message names.
    """
    for module in model.modules():
        kind = type(module).__name__
        for attribute, rate in vars(module).items():
            drops = "dropout" in attribute or (attribute == "p" and "Dropout" in kind)
            if drops and isinstance(rate, float) and rate > 0:
                raise ModelError(
                    f"{name} trains with dropout ({kind}.{attribute} = {rate}), expected none on several ranks: each "
                    "would drop other units. Set training.ranks to 1, or choose a model without dropout."
                )


def release(model: nn.Module) -> None:
    """Empty every parameter, and under ZeRO-3 this rank's part of it, whoever still refers to them."""
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)
        part = getattr(parameter, "ds_tensor", None)
        if part is not None:
            part.data = part.data.new_empty(0)


def _adapted_layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
