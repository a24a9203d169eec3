"""The memory of a device by what is done: weights and adapter, and beside them a cache, activations or a reward model.

All of it is arithmetic, see `estimate`. Leaves out what torch's allocator keeps in reserve, the activations of passes
without gradients, and what a vLLM server holds.
"""

from typing import Final

from cyclealign.model_sizes import (
    STATIC_CACHES,
    STATIC_LENGTHS,
    TRAINING_TOKENS,
    VOCABULARY,
    ModelSize,
    adapted_parameters,
    held_bytes,
    parameter_count,
    trained_parameters,
)
from cyclealign.sampling_settings import SamplingSettings
from cyclealign.settings import Settings
from cyclealign.workload import (
    example_tokens,
    examples_of_a_rank,
    held_out_rows,
    partitioned,
    prompts_of_a_rank,
    sampled_rows,
)

TRAINED_BYTES: Final = 16
"""Per trained parameter: float32 weight, gradient and Adam's two moments."""
ACTIVATION_NUMBERS: Final = 17
"""Per token, layer and unit of width: 34 bytes in 16 bits, no attention maps (Korthikanti et al. 2022, Section 4)."""
LOGIT_BYTES: Final = 12
"""Float32 logits, their softmax, their gradient."""
HUB_REWARD_MODELS: Final = ("oasst", "classifier")


def memory_by_phase(settings: Settings, model: ModelSize) -> dict[str, float]:
    """Bytes of each rank's device in every phase, highest first.

    Phases that another process or no model of known size takes are left out. The rewards come after the white box is
    gone, unless the reward model scores during the training and so stays beside it.
    """
    reward, both = reward_model_bytes(settings, model.number_bytes), settings.evaluation.reward_model_beside
    beside = _beside_a_phase(settings, model) + (reward if both else 0)
    phases = {
        "sampling": _sampling_bytes(settings, model),
        "training": _activation_bytes(settings, model),
        "held-out responses": _held_out_bytes(settings, model),
    }
    found = {phase: beside + own for phase, own in phases.items() if own is not None}
    if reward:
        found["rewards"] = beside if both else reward
    return dict(sorted(found.items(), key=lambda phase: -phase[1]))


def reward_model_parameters(settings: Settings) -> int | None:
    """Of the evaluation's reward model from the hub; None where its name tells no size, or it is a stand-in."""
    evaluation = settings.evaluation
    if evaluation.reward_model not in HUB_REWARD_MODELS:
        return None
    return parameter_count(evaluation.reward_model_name)


def reward_model_bytes(settings: Settings, number_bytes: int) -> int:
    """Of that model in memory: OpenAssistant's in float32, a classifier as wide as the white box's numbers."""
    each = 4 if settings.evaluation.reward_model == "oasst" else number_bytes
    return each * (reward_model_parameters(settings) or 0)


def _beside_a_phase(settings: Settings, model: ModelSize) -> float:
    """What the white box holds whatever it does: weights, adapter and its optimizer, static caches."""
    ranks = settings.training.ranks if partitioned(settings) else 1
    adapter = trained_parameters(settings.white_box.lora, model.parameters) * TRAINED_BYTES
    return held_bytes(settings.white_box, model) / ranks + adapter + _static_bytes(settings, model)


def _static_bytes(settings: Settings, model: ModelSize) -> float:
    """The caches of compiled passes, which stay for later calls, as large as the largest."""
    length = -(-settings.white_box.max_length // STATIC_LENGTHS) * STATIC_LENGTHS
    used = (
        (settings.white_box.sampling, sampled_rows(settings)),
        (settings.evaluation.sampling, held_out_rows(settings)),
    )
    rows = max((rows for sampling, rows in used if sampling.engine == "compiled"), default=0)
    return STATIC_CACHES * model.cache(rows, length)


def _sampling_bytes(settings: Settings, model: ModelSize) -> float | None:
    prompts = prompts_of_a_rank(settings, settings.training.wave)
    return _decoding_bytes(settings, model, settings.white_box.sampling, (prompts, sampled_rows(settings)))


def _held_out_bytes(settings: Settings, model: ModelSize) -> float | None:
    rows = held_out_rows(settings)
    return _decoding_bytes(settings, model, settings.evaluation.sampling, (rows, rows))


def _decoding_bytes(
    settings: Settings, model: ModelSize, sampling: SamplingSettings, rows: tuple[int, int]
) -> float | None:
    """The cache of so many prompts' so many rows at their full length, and merged weights; None: a server's."""
    prompts, responses = rows
    length = settings.white_box.max_length
    if sampling.engine == "vllm":
        return None
    if sampling.engine == "compiled":  # the rows' own is static, the prompts' stays beside it
        return model.cache(prompts, max(0, length - sampling.max_new_tokens))
    return model.cache(responses, length) + _merged_bytes(settings, model)


def _merged_bytes(settings: Settings, model: ModelSize) -> float:
    """Of the copy of the adapted weights that is sampled from; see `weights.can_merge`."""
    merges = model.number_bytes == 4 and settings.white_box.quantization == "none"
    if partitioned(settings) or not merges:
        return 0.0
    return adapted_parameters(settings.white_box.lora, model.parameters) * model.number_bytes


def _activation_bytes(settings: Settings, model: ModelSize) -> float:
    """Of one forward and backward pass, logits included: as many examples as fit into it, or a single one."""
    prompt, responses = example_tokens(settings)
    tokens = prompt + responses
    examples = max(1, min(examples_of_a_rank(settings), TRAINING_TOKENS // max(1, tokens)))
    numbers = model.layers * model.width * ACTIVATION_NUMBERS
    if settings.training.gradient_checkpointing:  # the inputs of all layers, and one layer in full
        numbers = model.layers * model.width + model.width * ACTIVATION_NUMBERS
    logits = responses * VOCABULARY * LOGIT_BYTES
    return examples * (tokens * numbers * model.number_bytes + logits)
