"""How large a model, its adapter and its passes are, and the memory of a device in each phase of a run.

The limits of passes are those of the white box. The rest is arithmetic, see `estimate`: a model's size is guessed from
the parameters that its name states. Leaves out what torch's allocator keeps in reserve, the activations of passes
without gradients, and the memory of a vLLM server.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from cyclealign.settings import LoraSettings, Settings

MLP: Final = 8 / 3
"""Width of a Llama's MLP in widths of the model."""
ATTENTION_MODULES: Final = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP_MODULES: Final = ("gate_proj", "up_proj", "down_proj")
VOCABULARY: Final = 50_000
NF4_BYTES: Final = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Per weight: 4 bits, a scale of 8 bits per 64 weights, a float32 per 256 scales (Dettmers et al. 2023, Section 3)."""
DTYPE_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
TRAINED_BYTES: Final = 16
"""Per trained parameter: float32 weight, gradient and Adam's two moments."""
ACTIVATION_NUMBERS: Final = 17
"""Per token, layer and unit of width: 34 bytes in 16 bits, no attention maps (Korthikanti et al. 2022, Section 4)."""
LOGIT_BYTES: Final = 12
"""Float32 logits, their softmax, their gradient."""
HUB_REWARD_MODELS: Final = ("oasst", "classifier")
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


def parameter_count(model: str) -> int | None:
    """The number of parameters that a model's name states (`llama-7b`, `SmolLM2-135M`), else None."""
    if model == "world":
        return 1_000_000
    stated = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z])", model.rsplit("/", 1)[-1].lower())
    if stated is None:
        return None
    return int(float(stated[1]) * (1e9 if stated[2] == "b" else 1e6))


def reward_model_parameters(settings: Settings) -> int | None:
    """Of the evaluation's reward model from the hub; None where its name tells no size, or it is a stand-in."""
    evaluation = settings.evaluation
    return parameter_count(evaluation.reward_model_name) if evaluation.reward_model in HUB_REWARD_MODELS else None


def shape(parameters: int) -> tuple[int, int]:
    """Layers L and width d of a Llama of this size, from 12·L·d² = parameters and d = 128·L."""
    layers = max(1, round((parameters / (12 * 128**2)) ** (1 / 3)))
    return layers, 128 * layers


def adapted_maps(lora: LoraSettings) -> tuple[int, int]:
    """Linear maps of a layer's attention and of its MLP that the adapter sits on.

    An unknown name counts as one of the MLP; a pattern over names, which peft takes too, as all of them.
    """
    if isinstance(lora.target_modules, str):
        return len(ATTENTION_MODULES), len(MLP_MODULES)
    names = set(lora.target_modules)
    attention = len(names & set(ATTENTION_MODULES))
    return attention, len(names) - attention


def trained_parameters(lora: LoraSettings, parameters: int) -> float:
    """Of the adapter: rank · (inputs + outputs) of each linear map that it sits on."""
    layers, width = shape(parameters)
    attention, mlp = adapted_maps(lora)
    return layers * width * lora.rank * (2 * attention + (1 + MLP) * mlp)


@dataclass(frozen=True)
class Load:
    """A run's white box on the device of one rank: its size, and the rows and tokens that the rank has at once.

    The shape is a Llama's, keys and values as wide as the model; a model whose heads share keys and values (grouped
    queries) has a smaller cache. Prompts and responses count at their longest.
    """

    settings: Settings
    parameters: int
    device: str = "a100"
    """A key of `estimate.DEVICES`."""

    @property
    def dtype(self) -> str:
        """Of the weights on this device; see `loading.resolve_dtype`."""
        chosen = self.settings.white_box.dtype
        return chosen if chosen != "auto" else "float32" if self.device == "cpu" else "bfloat16"

    @property
    def number_bytes(self) -> int:
        """Of a weight."""
        return DTYPE_BYTES[self.dtype]

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Layers L and width d."""
        return shape(self.parameters)

    @property
    def weights(self) -> int:
        """Bytes of the weights as they are stored and loaded, not quantised."""
        return self.parameters * self.number_bytes

    def cache(self, rows: int, tokens: float) -> float:
        """Bytes of the key/value cache of rows of so many tokens: two vectors of width d per layer and token."""
        layers, width = self.shape
        return 2 * layers * width * self.number_bytes * rows * tokens

    def prompts_of_a_rank(self, prompts: int) -> int:
        """The most prompts of a wave or a batch that one rank samples and scores."""
        training = self.settings.training
        return prompts if training.partitioned else -(-prompts // training.ranks)

    @property
    def wave(self) -> int:
        """Prompts of a wave that one rank samples at once."""
        return self.prompts_of_a_rank(self.settings.training.wave)

    @property
    def sampled_rows(self) -> int:
        """Responses of a wave that one rank samples at once."""
        return self.wave * self.settings.method.candidates

    @property
    def held_out_rows(self) -> int:
        """Responses to held-out prompts that one rank samples at once."""
        return self.prompts_of_a_rank(self.settings.evaluation.batch)

    @property
    def examples(self) -> int:
        """The most prompts of an optimizer step that one rank trains on."""
        return -(-self.settings.training.examples // self.settings.training.ranks)

    @property
    def example_tokens(self) -> tuple[int, int]:
        """Prompt tokens and response tokens of one training example; the prompt is run once for all responses."""
        reply = self.settings.white_box.sampling.max_new_tokens
        responses = self.settings.method.candidates + (self.settings.method.rewrite != "off")
        return max(0, self.settings.white_box.max_length - reply), responses * reply


def memory_by_phase(load: Load) -> dict[str, float]:
    """Bytes of each rank's device in every phase, highest first.

    Phases that another process or no model of known size takes are left out. The rewards come after the white box is
    gone, unless the reward model scores during the training and so stays beside it.
    """
    white_box, evaluation = load.settings.white_box, load.settings.evaluation
    number_bytes = 4 if evaluation.reward_model == "oasst" else load.number_bytes  # OpenAssistant's is float32
    reward = number_bytes * (reward_model_parameters(load.settings) or 0)
    beside = _beside_a_phase(load) + (reward if evaluation.reward_model_beside else 0)
    found = {"training": beside + _activation_bytes(load)}
    if white_box.sampling.engine != "vllm":
        rows, prompt = load.sampled_rows, load.example_tokens[0]
        compiled = white_box.sampling.engine == "compiled"
        found["sampling"] = beside + _decoding_bytes(load, load.cache(load.wave, prompt), rows, compiled=compiled)
    if evaluation.sampling.engine != "vllm":
        rows, prompt = load.held_out_rows, max(0, white_box.max_length - evaluation.sampling.max_new_tokens)
        compiled = evaluation.sampling.engine == "compiled"
        found["held-out responses"] = beside + _decoding_bytes(load, load.cache(rows, prompt), rows, compiled=compiled)
    if reward:
        found["rewards"] = beside if evaluation.reward_model_beside else reward
    return dict(sorted(found.items(), key=lambda phase: -phase[1]))


def _beside_a_phase(load: Load) -> float:
    """What the white box always holds: weights, adapter and its optimizer, and the caches of compiled passes.

    These caches stay for later calls, as large as the largest.
    """
    white_box, evaluation = load.settings.white_box, load.settings.evaluation
    held: float = load.weights
    if white_box.quantization != "none":
        kept = min(load.parameters, 2 * VOCABULARY * load.shape[1])  # embedding and head
        held = kept * load.number_bytes + (load.parameters - kept) * NF4_BYTES
    ranks = load.settings.training.ranks if load.settings.training.partitioned else 1
    adapter = trained_parameters(white_box.lora, load.parameters) * TRAINED_BYTES
    length = -(-white_box.max_length // STATIC_LENGTHS) * STATIC_LENGTHS
    used = ((white_box.sampling, load.sampled_rows), (evaluation.sampling, load.held_out_rows))
    rows = max((rows for sampling, rows in used if sampling.engine == "compiled"), default=0)
    return held / ranks + adapter + STATIC_CACHES * load.cache(rows, length)


def _decoding_bytes(load: Load, prompts: float, rows: int, *, compiled: bool) -> float:
    """The cache of rows at their full length, and the merged copy of the adapted weights (`weights.can_merge`).

    Compiled passes have a static cache for the rows, and the one of the prompts, of so many bytes, beside it.
    """
    if compiled:
        return prompts
    white_box, (layers, width) = load.settings.white_box, load.shape
    attention, mlp = adapted_maps(white_box.lora)
    merges = load.number_bytes == 4 and white_box.quantization == "none" and not load.settings.training.partitioned
    merged = layers * width**2 * (attention + MLP * mlp) * load.number_bytes if merges else 0.0
    return load.cache(rows, white_box.max_length) + merged


def _activation_bytes(load: Load) -> float:
    """Of one forward and backward pass, logits included: as many examples as fit into it, or a single one."""
    (prompt, responses), (layers, width) = load.example_tokens, load.shape
    tokens = prompt + responses
    examples = max(1, min(load.examples, TRAINING_TOKENS // max(1, tokens)))
    numbers = layers * width * ACTIVATION_NUMBERS
    if load.settings.training.gradient_checkpointing:  # the inputs of all layers, and one layer in full
        numbers = layers * width + width * ACTIVATION_NUMBERS
    logits = responses * VOCABULARY * LOGIT_BYTES
    return examples * (tokens * numbers * load.number_bytes + logits)
