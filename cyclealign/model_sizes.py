"""How large a model and its adapter are, guessed from the parameters that the model's name states, and a pass of it.

The shape is a Llama's: about 12·L·d² parameters in L layers of width d = 128·L, with keys and values as wide as d. A
model whose heads share keys and values (grouped queries) has a smaller cache than is said here. Called by `estimate`
and its parts; leaves out what is done with the model (`estimated_memory`, `estimated_hours`).
"""

import re
from dataclasses import dataclass
from typing import Final

from cyclealign.settings import LoraSettings, WhiteBoxSettings

MLP: Final = 8 / 3
"""Width of a Llama's MLP in widths of the model."""
ATTENTION_MODULES: Final = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP_MODULES: Final = ("gate_proj", "up_proj", "down_proj")
VOCABULARY: Final = 50_000
NF4_BYTES: Final = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Per weight: 4 bits, a scale of 8 bits per 64 weights, a float32 per 256 scales (Dettmers et al. 2023, Section 3)."""
SCORING_TOKENS: Final = 2048
"""Padded tokens of one forward pass without gradients, at most."""
TRAINING_TOKENS: Final = 1024
"""Padded tokens of one forward and backward pass, at most: bounds the activations kept in memory."""
STATIC_LENGTHS: Final = 128
"""Caches of compiled passes have this length, or a multiple of it: few shapes, few compilations."""
STATIC_CACHES: Final = 2
"""Of them, those kept for later calls: that of a whole wave and that of the prompts left over. A CUDA graph knows its
cache by where it lies in memory."""
REWARD_TOKENS: Final = 1024
"""Longest dialogue with its response that a reward model of the hub reads by default."""
_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class ModelSize:
    """A Llama of so many parameters, held in numbers of so many bytes."""

    parameters: int
    number_bytes: int

    @property
    def layers(self) -> int:
        """L."""
        return shape(self.parameters)[0]

    @property
    def width(self) -> int:
        """d."""
        return shape(self.parameters)[1]

    @property
    def weights(self) -> int:
        """Bytes of the weights as they are stored and loaded, not quantised."""
        return self.parameters * self.number_bytes

    def cache(self, rows: int, tokens: float) -> float:
        """Bytes of the key/value cache of rows of so many tokens: two vectors of width d per layer and token."""
        return 2 * self.layers * self.width * self.number_bytes * rows * tokens


def parameter_count(model: str) -> int | None:
    """The number of parameters that a model's name states (`llama-7b`, `SmolLM2-135M`), else None."""
    if model == "world":
        return 1_000_000
    stated = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z])", model.rsplit("/", 1)[-1].lower())
    if stated is None:
        return None
    return int(float(stated[1]) * (1e9 if stated[2] == "b" else 1e6))


def shape(parameters: int) -> tuple[int, int]:
    """Layers L and width d of a Llama of this size, from 12·L·d² = parameters and d = 128·L."""
    layers = max(1, round((parameters / (12 * 128**2)) ** (1 / 3)))
    return layers, 128 * layers


def dtype_on(settings: WhiteBoxSettings, device: str) -> str:
    """The dtype of the white box's weights on one of `estimated_hours.DEVICES`; see `loading.resolve_dtype`."""
    if settings.dtype == "auto":
        return "float32" if device == "cpu" else "bfloat16"
    return settings.dtype


def size_on(settings: WhiteBoxSettings, parameters: int, device: str) -> ModelSize:
    """The white box in the dtype that it has on this device."""
    return ModelSize(parameters, _BYTES[dtype_on(settings, device)])


def held_bytes(settings: WhiteBoxSettings, model: ModelSize) -> float:
    """Of the base model's weights in memory, where its linear layers may be quantised."""
    if settings.quantization == "none":
        return model.weights
    kept = min(model.parameters, 2 * VOCABULARY * model.width)  # embedding and head
    return kept * model.number_bytes + (model.parameters - kept) * NF4_BYTES


def trained_parameters(lora: LoraSettings, parameters: int) -> float:
    """Of the adapter: rank · (inputs + outputs) of each linear map that it sits on."""
    layers, width = shape(parameters)
    attention, mlp = _adapted(lora)
    return layers * width * lora.rank * (2 * attention + (1 + MLP) * mlp)


def adapted_parameters(lora: LoraSettings, parameters: int) -> float:
    """Of the weights that the adapter sits on."""
    layers, width = shape(parameters)
    attention, mlp = _adapted(lora)
    return layers * width**2 * (attention + MLP * mlp)


def _adapted(lora: LoraSettings) -> tuple[int, int]:
    """Linear maps of a layer's attention and of its MLP that are adapted; an unknown name counts as one of the MLP.

    A pattern over names, which peft takes too, counts as all of them.
    """
    if isinstance(lora.target_modules, str):
        return len(ATTENTION_MODULES), len(MLP_MODULES)
    names = set(lora.target_modules)
    attention = len(names & set(ATTENTION_MODULES))
    return attention, len(names) - attention
