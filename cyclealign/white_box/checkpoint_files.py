"""The files of an adapter and of a checkpoint: peft's own format, and the optimizer's state beside it.

A checkpoint's folder is therefore an adapter that `PeftModel.from_pretrained` loads. All tensors are
safetensors; nothing here is a pickle. Called by `white_box`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cyclealign.errors import ModelError

ADAPTER_FILE = "adapter_model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
Moments = Mapping[str, Mapping[str, Tensor]]
"""AdamW's moments by adapter tensor."""


def save_adapter(model: Any, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Writes the adapter of a peft model: `adapter_config.json` and `adapter_model.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.peft_config["default"]
    trained_for = config.inference_mode
    config.inference_mode = True  # as peft's own saving does: whoever loads it does not train by accident
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
    problem = ""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        problem = str(error)
    if problem:
        raise ModelError(f"Cannot read the adapter {path}: {problem}. Expected a folder written by CycleAlign.")
    _refuse_other_shapes(tensors, expected, path)
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
    raise ModelError(f"Cannot read the optimizer's state {path}: {problem}. Expected a checkpoint of a run.")


def _refuse_other_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if differing:
        name = differing[0]
        raise ModelError(
            f"{path} does not fit this model and its LoRA settings: {len(differing)} tensors differ, first "
            f"{name}: found {found.get(name)}, expected {wanted.get(name)}. "
            "Use the model, rank and target modules that it was written with."
        )
