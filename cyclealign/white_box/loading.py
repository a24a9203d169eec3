"""Models, tokenizers and adapters from the hub, a folder or a `.gguf` file, and what tells them from others.

Weights come from safetensors (or GGUF), never from pickles, and code from a repository only where a setting allows it.
Every way in which that fails is a `ModelError`. Base weights may be quantised to 4 bits (QLoRA: NF4 with double
quantisation, by transformers' own bitsandbytes integration): linear layers but the head, while they are loaded;
embeddings, norms, head and whatever is computed keep the resolved dtype, and the adapter stays in float32. Called by
`white_box` and the reward models; leaves out what a model then does. Source: Dettmers et al. 2023, Section 3.
"""

import hashlib
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
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging

from cyclealign.errors import ModelError
from cyclealign.extras import require_quantization
from cyclealign.settings import LoraSettings, MethodSettings, TrainingSettings, WhiteBoxSettings
from cyclealign.white_box.device_memory import LOADING, fitting
from cyclealign.white_box.weights import ADAPTER_FILE


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a white box that trains is made from; the same on every rank."""

    settings: WhiteBoxSettings
    training: TrainingSettings
    method: MethodSettings
    seed: int
    model_path: str | None = None
    """Where the model lies, if elsewhere than `settings.model` says."""


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
    dtype, from_gguf = resolve_dtype(settings, device), "gguf_file" in arguments
    tokenizer = load_tokenizer(settings, model_path)
    chosen = {**arguments, **_quantization(settings, dtype, device)} | ({} if from_gguf else {"use_safetensors": True})
    with quiet_transformers(), fitting(f"Loading {name!r}", LOADING), _translated(name):
        model, report = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, output_loading_info=True, **chosen)
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"{name!r} holds no causal language model: {len(missing)} weights are missing, first "
            f"{missing[0]}. Choose a checkpoint with a language-modelling head."
        )
    _refuse_short_context(name, model, settings)
    if from_gguf:
        _forget_quantization(model)
    _compute_alike(model)
    with fitting(f"Loading {name!r}", LOADING):
        model = model.to(device).eval().requires_grad_(False)
    return Pretrained(model, tokenizer, _identity(name, model, tokenizer, dtype, settings))


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
        ModelError: there is no such folder or file, and no such name in the hub or its cache; or the settings quantise
            it, and it is quantised already.
        UsageError: the settings quantise it, and bitsandbytes is not installed.
    """
    name = model_path or settings.model
    where, arguments = _location(name, settings)
    with quiet_transformers(), _translated(name):
        if "revision" in arguments:
            look_up(where, settings.revision)
        if settings.quantization != "none":
            require_quantization(settings)
            _refuse_quantized(name, where, arguments, settings)
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
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            linear = {name for name, part in model.named_modules() if isinstance(part, nn.Linear | Conv1D)}
            known = ", ".join(sorted({name.split(".")[-1] for name in linear}))
            raise ModelError(
                f"white_box.lora.target_modules = {lora.target_modules!r} does not fit: {str(error)[:200]} "
                f"Linear modules of this model: {known}. Name some of them, or use all-linear."
            ) from None


def load_adapter(model: Any, folder: Path) -> PeftModel:
    """The model under the frozen adapter in `folder` (peft's format).

    Raises:
        ModelError: no adapter there, or one of another model.
    """
    files = ("adapter_config.json", ADAPTER_FILE)
    if not all((folder / file).is_file() for file in files):  # peft would take a pickle, or ask the hub
        raise ModelError(f"No adapter in {folder}: expected {' and '.join(files)}.")
    with quiet_transformers():
        try:
            return PeftModel.from_pretrained(model, str(folder), is_trainable=False).eval()
        except (ValueError, RuntimeError, OSError, SafetensorError) as error:
            raise ModelError(f"The adapter in {folder} does not fit this model: {str(error)[:300]}") from None


def files_sha256(path: Path) -> str:
    """Digest of a checkpoint's config and weights: of a folder, or of a single `.gguf` file."""
    files = [path] if path.is_file() else sorted([*path.glob("*.safetensors"), path / "config.json"])
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def tokenizer_sha256(tokenizer: Any) -> str:
    """Digest of vocabulary, chat template and special tokens."""
    vocabulary = sorted(tokenizer.get_vocab().items())
    text = repr((vocabulary, tokenizer.chat_template, sorted(tokenizer.special_tokens_map.items())))
    return hashlib.sha256(text.encode()).hexdigest()


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
        raise ModelError(
            f"Cannot load {name!r} as a causal language model. {problem} Expected a hub name, a folder with "
            "config, tokenizer and safetensors weights, or a .gguf file; hub names need network or a full cache."
        ) from None


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


def _identity(name: str, model: Any, tokenizer: Any, dtype: torch.dtype, settings: WhiteBoxSettings) -> dict[str, Any]:
    """Contents for local files, wherever they lie, the commit for the hub's; part of an identity in the ledger."""
    path = Path(name).expanduser()
    identity = {
        "model": path.name if path.exists() else name,
        "revision": getattr(model.config, "_commit_hash", None),
        "files_sha256": files_sha256(path) if path.exists() else None,
        "dtype": str(dtype).removeprefix("torch."),
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
    }
    return identity if settings.quantization == "none" else {**identity, "quantization": settings.quantization}


def _refuse_short_context(name: str, model: Any, settings: WhiteBoxSettings) -> None:
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and context < settings.max_length:
        raise ModelError(
            f"{name!r} has a context of {context} tokens, white_box.max_length asks for "
            f"{settings.max_length}. Set white_box.max_length to at most {context}."
        )


def _quantization(settings: WhiteBoxSettings, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Arguments with which `from_pretrained` quantises on `device`; none without quantisation."""
    if settings.quantization == "none":
        return {}
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def _refuse_quantized(name: str, where: str, arguments: dict[str, Any], settings: WhiteBoxSettings) -> None:
    found = "a GGUF file"
    if "gguf_file" not in arguments:
        config, _ = PretrainedConfig.get_config_dict(where, **arguments)
        if not config.get("quantization_config"):
            return
        found = f"quantised already ({config['quantization_config'].get('quant_method', 'method unknown')})"
    raise ModelError(
        f"white_box.quantization = {settings.quantization}, and {name!r} is {found}. Expected safetensors in 16 or "
        "32 bits. Set white_box.quantization=none, or choose the model that it was made from."
    )


def _forget_quantization(model: Any) -> None:
    # A GGUF file's weights are dequantised on loading; save_pretrained refuses as long as the config says otherwise.
    model.hf_quantizer = None
    model.is_quantized = False
    for mark in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, mark):
            delattr(model.config, mark)


def _compute_alike(model: Any) -> None:
    """Have 4-bit layers compute on a CPU in evaluation what they compute in training.

    On processors with AVX512-BF16, bitsandbytes 0.50.2 packs weights anew at their first evaluation
    (`Linear4bit.forward`); from then on, outputs are rounded to bfloat16 whatever the dtype, and gradients are wrong.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
