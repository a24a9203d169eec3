"""Models, tokenizers and adapters as they come from the hub, a folder or a `.gguf` file.

Weights come from safetensors (or GGUF), never from pickles, and code from a repository only where it was
asked for. Every way in which that fails is a `ModelError`. Called by `white_box`; leaves out what a model
then does.
"""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from cyclealign.errors import ModelError
from cyclealign.settings import LoraSettings, WhiteBoxSettings
from cyclealign.white_box.device_memory import LOADING, fitting
from cyclealign.white_box.identity import model_identity
from cyclealign.white_box.quantization import compute_alike, quantization_arguments, refuse_unquantizable

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_SHORTEST_PROMPT = 8
"""Tokens that must be left for the prompt beside the longest response."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A causal LM in evaluation mode with its tokenizer and what identifies both."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    identity: dict[str, Any]


def resolve_device(settings: WhiteBoxSettings) -> torch.device:
    """The device to run on; `auto` is CUDA where there is one.

    Raises:
        ModelError: `cuda` without a CUDA device.
    """
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise ModelError("white_box.device is cuda, but torch finds no CUDA device. Set it to auto or cpu.")
    if not available or settings.device == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))  # a launcher gives each rank its own


def resolve_dtype(settings: WhiteBoxSettings, device: torch.device) -> torch.dtype:
    """The weights' dtype; `auto` is float32 on a CPU (bfloat16 is slow there) and bfloat16 on a GPU."""
    if settings.dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    dtype: torch.dtype = getattr(torch, settings.dtype)
    return dtype


def load_pretrained(settings: WhiteBoxSettings, model_path: str | None, device: torch.device) -> Pretrained:
    """The model at `model_path`, else `settings.model`, on `device`.

    Raises:
        ModelError: unknown name, unreachable hub, missing or broken file, not a causal LM, context too short;
            or as `find_model`.
        DeviceMemoryFull: it does not fit.
        UsageError: as `find_model`.
    """
    name = model_path or settings.model
    where, arguments = _location(name, settings)
    dtype = resolve_dtype(settings, device)
    tokenizer = load_tokenizer(settings, model_path)
    chosen = {**_weight_arguments(arguments), **quantization_arguments(settings, dtype, device)}
    with quiet_transformers(), fitting(f"Loading {name!r}", LOADING), _translated(name):
        model, report = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, output_loading_info=True, **chosen)
    _refuse_missing_weights(name, report)
    _refuse_short_context(name, model, settings)
    if "gguf_file" in arguments:
        _forget_quantization(model)
    compute_alike(model)
    with fitting(f"Loading {name!r}", LOADING):
        model = model.to(device).eval().requires_grad_(False)
    identity = model_identity(name, model, tokenizer, dtype)
    if settings.quantization != "none":
        identity["quantization"] = settings.quantization
    return Pretrained(model, tokenizer, identity)


def load_tokenizer(settings: WhiteBoxSettings, model_path: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer of the model at `model_path`, else of `settings.model`.

    Raises:
        ModelError, UsageError: see `find_model`.
    """
    name, where, arguments = find_model(settings, model_path)
    if settings.trust_remote_code:  # here, because every model is loaded with its tokenizer, and some without
        warnings.warn(f"Python code from the repository of {name} will be executed.", stacklevel=2)
    with quiet_transformers(), _translated(name):
        return AutoTokenizer.from_pretrained(where, **arguments)


def find_model(settings: WhiteBoxSettings, model_path: str | None) -> tuple[str, str, dict[str, Any]]:
    """Look for the model at `model_path`, else `settings.model`, and load nothing.

    Returns:
        Its name; the folder, or the name for the hub; and the arguments that tokenizer and weights share.

    Raises:
        ModelError: there is no such folder or file, and no such name in the hub or its cache; or quantisation is asked
            for, and it is quantised already.
        UsageError: quantisation is asked for, and bitsandbytes is not installed.
    """
    name = model_path or settings.model
    where, arguments = _location(name, settings)
    if "revision" in arguments:
        with quiet_transformers(), _translated(name):
            look_up(where, settings.revision)
    with quiet_transformers(), _translated(name):
        refuse_unquantizable(name, where, arguments, settings)
    return name, where, arguments


def look_up(name: str, revision: str | None) -> None:
    """Ask the hub, or the cache, for a model once; transformers would go on asking a hub that cannot be reached.

    Raises: what the hub raises, within seconds.
    """
    snapshot_download(name, revision=revision, allow_patterns=["config.json"])


def add_adapter(model: Any, lora: LoraSettings, seed: int) -> PeftModel:
    """The model under a new LoRA adapter in float32, initialised from `seed` alone; it changes no output yet.

    Raises:
        ModelError: the model has no module of a name in `lora.target_modules`.
    """
    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets
    )
    problem = ""
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            problem = str(error)
    known = ", ".join(sorted({name.split(".")[-1] for name, part in model.named_modules() if _is_linear(part)}))
    raise ModelError(
        f"white_box.lora.target_modules = {lora.target_modules!r} does not fit: {problem[:200]} "
        f"Linear modules of this model: {known}. Name some of them, or use all-linear."
    )


def load_adapter(model: Any, folder: Path) -> PeftModel:
    """The model under the frozen adapter in `folder` (peft's format).

    Raises:
        ModelError: no adapter there, or one of another model.
    """
    if not all((folder / file).is_file() for file in ADAPTER_FILES):  # peft would take a pickle, or ask the hub
        raise ModelError(f"No adapter in {folder}: expected {' and '.join(ADAPTER_FILES)}.")
    problem = ""
    with quiet_transformers():
        try:
            return PeftModel.from_pretrained(model, str(folder), is_trainable=False).eval()
        except (ValueError, RuntimeError, OSError, SafetensorError) as error:
            problem = str(error)
    raise ModelError(f"The adapter in {folder} does not fit this model: {problem[:300]}")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no log lines below errors from transformers and peft, for the duration."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        # GGUF files are read under bars of their own, which no setting turns off.
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Turns what transformers and the hub raise on loading into a `ModelError`."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise  # no fault of the model's
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError, HFValidationError) as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    else:
        return
    raise ModelError(
        f"Cannot load {name!r} as a causal language model. {problem} Expected a hub name, a folder with "
        "config, tokenizer and safetensors weights, or a .gguf file; hub names need network or a full cache."
    )


def _location(name: str, settings: WhiteBoxSettings) -> tuple[str, dict[str, Any]]:
    """Folder or hub name, and the arguments that tokenizer and weights share."""
    path = Path(name).expanduser()
    shared: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code}
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"No file {path}: expected a GGUF checkpoint. Check white_box.model, or --system.")
        return str(path.parent), {**shared, "gguf_file": path.name}
    if path.is_dir():
        return str(path), shared
    if path.is_absolute() or name.startswith(("./", "../", "~")):
        raise ModelError(f"No folder {path}: expected one with a model. Check white_box.model, or --system.")
    return name, {**shared, "revision": settings.revision}


def _weight_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    return arguments if "gguf_file" in arguments else {**arguments, "use_safetensors": True}


def _refuse_missing_weights(name: str, report: dict[str, Any]) -> None:
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"{name!r} holds no causal language model: {len(missing)} weights are missing, first "
            f"{missing[0]}. Choose a checkpoint with a language-modelling head."
        )


def _refuse_short_context(name: str, model: Any, settings: WhiteBoxSettings) -> None:
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and context < settings.max_length:
        raise ModelError(
            f"{name!r} has a context of {context} tokens, white_box.max_length asks for "
            f"{settings.max_length}. Set white_box.max_length to at most {context}."
        )
    left = settings.max_length - settings.sampling.max_new_tokens
    if left < _SHORTEST_PROMPT:
        raise ModelError(
            f"white_box.max_length = {settings.max_length} leaves {left} tokens for the prompt "
            f"beside {settings.sampling.max_new_tokens} new ones. Raise it, or lower "
            "white_box.sampling.max_new_tokens."
        )


def _forget_quantization(model: Any) -> None:
    # The weights were dequantised on loading; save_pretrained refuses as long as the config says otherwise.
    model.hf_quantizer = None
    model.is_quantized = False
    for mark in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, mark):
            delattr(model.config, mark)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
