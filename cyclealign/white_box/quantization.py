"""4-bit base weights (QLoRA): NF4 with double quantisation, by transformers' own bitsandbytes integration.

Linear layers but the head are quantised while they are loaded; embeddings, norms and head keep the resolved dtype, in
which everything is computed. Called by `loading`; leaves out the adapter, which stays in float32 and is never merged
into 4-bit weights (`weights`), and whether bitsandbytes is installed (`cyclealign.extras`).
Source: Dettmers et al. 2023, Section 3.
"""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PretrainedConfig

from cyclealign.errors import ModelError
from cyclealign.extras import require_quantization
from cyclealign.settings import WhiteBoxSettings


def quantization_arguments(settings: WhiteBoxSettings, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` is told to quantise on `device`; nothing without quantisation."""
    if settings.quantization == "none":
        return {}
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def refuse_unquantizable(name: str, where: str, arguments: Mapping[str, Any], settings: WhiteBoxSettings) -> None:
    """Ask before anything is loaded; `where` and `arguments` are what a tokenizer is loaded with.

    Raises:
        UsageError: bitsandbytes is not installed.
        ModelError: the weights are quantised already, in a GGUF file or as the model's configuration says.
    """
    if settings.quantization == "none":
        return
    require_quantization(settings)
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


def compute_alike(model: Any) -> None:
    """Have 4-bit layers compute on a CPU in evaluation what they compute in training.

    On processors with AVX512-BF16, bitsandbytes 0.50.2 packs weights anew at their first evaluation
    (`Linear4bit.forward`); from then on, outputs are rounded to bfloat16 whatever the dtype, and gradients are wrong.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
