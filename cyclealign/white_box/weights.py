"""The adapter's tensors: names, digest, merged form while sampling, files; and the release of the model's memory.

Names are peft's own, and so is the format of the files: a checkpoint's folder is an adapter that
`PeftModel.from_pretrained` loads, with the optimizer's state beside it. All files are safetensors, none is a pickle.
Called by `white_box` and `training`; leaves out how the tensors change (`training`).
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cyclealign.errors import ModelError

ADAPTER_FILE = "adapter_model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
Moments = Mapping[str, Mapping[str, Tensor]]
"""AdamW's moments by adapter tensor."""


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
    """Empty every parameter, and under ZeRO-3 this rank's part of it, although other objects still refer to them."""
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)
        part = getattr(parameter, "ds_tensor", None)
        if part is not None:
            part.data = part.data.new_empty(0)


def save_adapter(model: Any, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Writes the adapter of a peft model: `adapter_config.json` and `adapter_model.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.peft_config["default"]
    trained_for = config.inference_mode
    config.inference_mode = True  # as peft's own saving does: loading it does not train by accident
    config.save_pretrained(str(folder))
    config.inference_mode = trained_for
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(on_cpu, folder / ADAPTER_FILE, metadata={"format": "pt"})


def read_adapter(folder: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The adapter's tensors in `folder`, checked against the names and shapes of `expected`.

    Raises:
        ModelError: the file is missing or broken, or belongs to another model or adapter.
    """
    path = folder / ADAPTER_FILE
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"Cannot read the adapter {path}: {error}. Expected a folder written by CycleAlign.") from None
    found, wanted = ({name: tuple(one.shape) for name, one in each.items()} for each in (tensors, expected))
    if differing := sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)):
        name = differing[0]
        raise ModelError(
            f"{path} does not fit this model and its LoRA settings: {len(differing)} tensors differ, first "
            f"{name}: found {found.get(name)}, expected {wanted.get(name)}. "
            "Use the model, rank and target modules that it was written with."
        )
    return tensors


def save_optimizer(steps: int, moments: Moments, folder: Path) -> None:
    """Writes the number of optimizer steps taken and AdamW's moments (none before the first step)."""
    flat = {f"{name}:{key}": value.cpu() for name, state in moments.items() for key, value in state.items()}
    save_file(flat, folder / OPTIMIZER_FILE, metadata={"optimizer_steps": str(steps)})


def read_optimizer(folder: Path) -> tuple[int, dict[str, dict[str, Tensor]]]:
    """Optimizer steps taken, and moments, as `save_optimizer` wrote them.

    Raises:
        ModelError: the file is missing or broken.
    """
    path = folder / OPTIMIZER_FILE
    moments: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, "pt") as file:
            steps = int(file.metadata()["optimizer_steps"])
            for flat_name in file.keys():  # noqa: SIM118 - not a mapping
                name, _, key = flat_name.rpartition(":")
                moments.setdefault(name, {})[key] = file.get_tensor(flat_name)
        return steps, moments
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"[:200]
        raise ModelError(
            f"Cannot read the optimizer's state {path}: {problem}. Expected a checkpoint of a run."
        ) from None


def _adapted_layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
