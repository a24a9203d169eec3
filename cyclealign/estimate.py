"""What a run will need before anything is spent: calls, tokens, dollars, memory, hours, disk.

All of it is arithmetic on the settings and on a model's number of parameters; nothing is measured here, and
the results are estimates, good to a factor of about two. The shape of a model is guessed from its size (a
Llama has about 12·L·d² parameters in L layers of width d = 128·L). `cyclealign estimate` prints it. Leaves
out: the prices (`cyclealign.models.prices`), printing and storing (`tasks.estimating`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from cyclealign.method.demonstrations import STATIC_DEMONSTRATION, Demonstration
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.models.prices import Prices
from cyclealign.settings import MethodSettings, Settings

CHARACTERS_PER_TOKEN: Final = 4.0
"""Of English text, for tokenizers with large vocabularies."""
TRAINED_BYTES: Final = 16
"""Per trained parameter: float32 weight, gradient and Adam's two moments."""
ACTIVATION_BYTES: Final = 34
"""Per token, layer and unit of width, 16 bits, attention maps aside (Korthikanti et al. 2022, Section 4)."""
LORA_WIDTHS: Final = 19
"""Inputs plus outputs of a Llama layer's linear maps, in widths: 4·2 for attention, 3·3.7 for the MLP."""
VOCABULARY: Final = 50_000
NF4_BYTES: Final = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Per weight: 4 bits, a scale of 8 bits per 64 weights, a float32 per 256 scales (Dettmers et al. 2023, Section 3)."""
GIB: Final = 2**30
ROW_BYTES: Final = 12_000
"""Of the ledger per round: texts, tokens, request and reply, compressed."""

CHECKPOINT_BYTES: Final = 12
"""Per trained parameter: float32 weight and Adam's two moments."""
CHECKPOINTS_AT_ONCE: Final = 4
"""The two that are kept, the one being written, and the adapter at the end."""
OTHER_BYTES: Final = 64 * 2**20
"""Prepared data, report, logs, Prefect's database of a run."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a device reaches in practice."""

    name: str
    flops: float
    """Per second, in matrix products of training size, utilisation included."""
    bandwidth: float
    """Bytes per second, which is what decoding waits for."""
    layer_seconds: float
    """Least time that one layer takes, however small: launching its operations from Python."""


DEVICES: Final[Mapping[str, Device]] = {
    "cpu": Device("2 CPU cores, float32", 0.1e12, 15e9, 0.3e-3),
    "a100": Device("one A100-40GB, bfloat16", 0.4 * 312e12, 0.6 * 1.55e12, 0.8e-3),
    "h200": Device("one H200, bfloat16", 0.4 * 989e12, 0.6 * 4.8e12, 0.6e-3),
}
"""Guesses: 40% of the published peak for arithmetic, 60% for memory; the CPU's after a few measurements."""


@dataclass(frozen=True, slots=True)
class CallEstimate:
    """Ranking calls of a run, evaluation aside; tokens and dollars are those of `calls_high`."""

    calls_low: int
    """Every step stops after its first round."""
    calls_high: int
    """Every step uses all its rounds; re-asks, which are rare, come on top."""
    prompt_tokens: int
    completion_tokens: int
    usd: Decimal | None
    """None: the price is unknown."""


@dataclass(frozen=True, slots=True)
class MachineEstimate:
    """A run on the devices of its ranks, all rounds used."""

    device: str
    """With several ranks, how many of which."""
    memory_gib: float
    """Of each device at its highest: weights, trained parameters, activations of an optimizer step, logits; or the
    evaluation's reward model, which comes after the white box unless it scores during the training."""
    hours: float
    """Sampling, log-probabilities and training; the waiting for answers comes on top unless it overlaps."""
    disk_gib: float
    """Weights of both models, checkpoints and ledger."""


def estimate_calls(settings: Settings, mean_prompt_characters: float) -> CallEstimate:
    """Calls, tokens and dollars of a run whose prompts are so long on average."""
    rounds, reply = settings.method.rounds, settings.white_box.sampling.max_new_tokens
    calls = settings.data.prompts * rounds
    rewrite = 0 if settings.method.rewrite == "off" else reply
    completion = min(settings.black_box.max_tokens, rewrite + 8 * settings.method.candidates)
    prompt = round(_ranking_prompt_tokens(settings, mean_prompt_characters))
    usd = Prices(settings.black_box).cost_usd(settings.black_box.model, prompt, completion)
    return CallEstimate(
        calls_low=settings.data.prompts,
        calls_high=calls,
        prompt_tokens=calls * prompt,
        completion_tokens=calls * completion,
        usd=None if usd is None else calls * usd,
    )


def estimate_machine(settings: Settings, parameters: int, device: str = "a100") -> MachineEstimate:
    """Memory, hours and disk of a run's white box with so many parameters on `DEVICES`, one for each rank."""
    layers, width = shape(parameters)
    ranks, weights = settings.training.ranks, parameters * (4 if device == "cpu" else 2)
    held = _held_bytes(settings, parameters, weights) / (ranks if _partitioned(settings) else 1)
    cycle = held + _trained(settings, parameters) * TRAINED_BYTES + _activation_bytes(settings, layers, width)
    reward = reward_model_bytes(settings)
    memory = cycle + reward if settings.evaluation.score_during_training else max(cycle, reward)
    rows = settings.data.prompts * settings.method.rounds
    disk = weights + reward + home_bytes(settings, parameters)
    seconds = rows * _seconds_per_round(settings, parameters, weights, DEVICES[device])
    name = DEVICES[device].name if ranks == 1 else f"{ranks} ranks, each {DEVICES[device].name}"
    return MachineEstimate(name, memory / GIB, seconds / 3600, disk / GIB)


def _held_bytes(settings: Settings, parameters: int, weights: float) -> float:
    """Of the base model in memory, whose `weights` bytes shrink where its linear layers are quantised.

    Time is estimated as without: a 4-bit weight is dequantised at each use, and what that takes is not measured.
    """
    if settings.white_box.quantization == "none":
        return weights
    kept = min(parameters, 2 * VOCABULARY * shape(parameters)[1])
    return kept * weights / parameters + (parameters - kept) * NF4_BYTES


def reward_model_bytes(settings: Settings) -> int:
    """Of the evaluation's reward model from the hub, in float32; 0 where its name does not tell its size."""
    evaluation = settings.evaluation
    if evaluation.reward_model not in ("oasst", "classifier"):
        return 0
    return 4 * (parameter_count(evaluation.reward_model_name) or 0)


def _partitioned(settings: Settings) -> bool:
    """Whether each rank holds a part of every weight, and so runs every pass of sampling and scoring."""
    return settings.training.engine == "deepspeed" and settings.training.zero_stage == 3


def home_bytes(settings: Settings, parameters: int | None) -> int:
    """What a run writes into its home at most, the weights of its model aside.

    Checkpoints and adapter, and the ledger with its snapshot and the copy that becomes the next snapshot. Of a
    model whose size is unknown (None), checkpoints are not counted.
    """
    rows = settings.data.prompts * settings.method.rounds
    trained = 0 if parameters is None else _trained(settings, parameters)
    return round(CHECKPOINTS_AT_ONCE * trained * CHECKPOINT_BYTES + 3 * rows * ROW_BYTES) + OTHER_BYTES


def _trained(settings: Settings, parameters: int) -> float:
    """Parameters of the adapter."""
    layers, width = shape(parameters)
    return 2 * layers * width * LORA_WIDTHS * settings.white_box.lora.rank / 2


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


def _ranking_prompt_tokens(settings: Settings, mean_prompt_characters: float) -> float:
    """Tokens of a ranking prompt with a full pool, rendered with texts of the expected lengths."""
    method = settings.method
    instruction = "x" * round(mean_prompt_characters)
    response = "x" * round(settings.white_box.sampling.max_new_tokens * CHARACTERS_PER_TOKEN)
    text = render_ranking_prompt(
        instruction,
        [response] * method.candidates,
        _demonstrations(method, instruction, response),
        rewrite=method.rewrite != "off",
    )
    return len(text) / CHARACTERS_PER_TOKEN


def _demonstrations(method: MethodSettings, instruction: str, response: str) -> list[Demonstration]:
    """What a prompt shows once the pool is full, each an agreement of two."""
    if method.icl == "off":
        return []
    dynamic = Demonstration(instruction, (response, response), (0, 1))
    full = method.demonstration_capacity if method.icl == "full" else 0
    return [STATIC_DEMONSTRATION, *[dynamic] * full]


def _tokens_of_a_step(settings: Settings) -> tuple[int, int]:
    """Prompt tokens and response tokens of one training example; the prompt is run once for all responses."""
    reply = settings.white_box.sampling.max_new_tokens
    responses = settings.method.candidates + (settings.method.rewrite != "off")
    return max(0, settings.white_box.max_length - reply), responses * reply


def _activation_bytes(settings: Settings, layers: int, width: int) -> float:
    prompt, responses = _tokens_of_a_step(settings)
    per_token = layers * width * ACTIVATION_BYTES
    if settings.training.gradient_checkpointing:
        per_token = layers * width * 2 + width * ACTIVATION_BYTES  # inputs of all layers, one layer in full
    logits = responses * VOCABULARY * 12  # float32 logits, their softmax, their gradient
    return (prompt + responses) * per_token * _examples_of_a_rank(settings) + logits


def _examples_of_a_rank(settings: Settings) -> int:
    """The most prompts of an optimizer step that one rank has to do with."""
    return -(-settings.training.prompts_per_optimizer_step // settings.training.ranks)


def _prompts_of_a_rank(settings: Settings) -> int:
    """The same of a wave that is sampled and scored."""
    wave = settings.training.wave
    return wave if _partitioned(settings) else -(-wave // settings.training.ranks)


def _seconds_per_round(settings: Settings, parameters: int, weights: float, device: Device) -> float:
    """One pass each for prompt, log-probabilities, training forward and training backward, and the decoding.

    Under LoRA a backward pass costs about as much as a forward one. Decoding reads all weights once per
    token for the whole wave, and ranks do so side by side: more of them sample a wave no sooner.
    """
    prompt, responses = _tokens_of_a_step(settings)
    least = shape(parameters)[0] * device.layer_seconds
    one_pass = max(least, 2 * parameters * (prompt + responses) / device.flops)
    one_token = max(least, weights / device.bandwidth)
    training = settings.training
    scored = _prompts_of_a_rank(settings) / training.wave
    trained = _examples_of_a_rank(settings) / training.prompts_per_optimizer_step
    return (
        2 * (scored + trained) * one_pass
        + settings.white_box.sampling.max_new_tokens * one_token / training.wave
    )
