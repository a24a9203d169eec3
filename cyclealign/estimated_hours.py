"""The hours of a run by what is done: the cycle, the responses to held-out prompts, the rewards.

All of it is arithmetic, see `estimate`: every prompt and response at its longest, all rounds used. Leaves out waiting
for answers, loading, writing, stand-ins of the offline profiles, a pairwise judge, and what 4-bit weights, compiled
passes and a vLLM server change.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cyclealign.estimated_memory import reward_model_parameters
from cyclealign.model_sizes import REWARD_TOKENS, ModelSize
from cyclealign.settings import Settings
from cyclealign.workload import (
    OWN_SYSTEMS,
    example_tokens,
    examples_of_a_rank,
    held_out_prompts,
    held_out_rows,
    prompts_of_a_rank,
    rounds,
    sampled_rows,
    scored_responses,
)

ARITHMETIC: Final = 0.4
"""Share of the published peak in matrix products of 16 bits: a guess, padding and small products included."""
FLOAT32_ARITHMETIC: Final = 0.6
"""The same of float32 without tensor cores (no TF32), which is easier to reach."""
MEMORY: Final = 0.6
"""The same of the memory's bandwidth."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a device reaches in practice."""

    name: str
    flops: float
    """Per second, in matrix products of 16 bits, utilisation included."""
    float32_flops: float
    """The same in float32, without TF32."""
    bandwidth: float
    """Bytes per second, which is what decoding waits for."""
    layer_seconds: float
    """Least time that one layer takes, however small: launching its operations from Python."""

    def flops_at(self, number_bytes: int) -> float:
        """Per second, in matrix products of numbers of so many bytes."""
        return self.float32_flops if number_bytes == 4 else self.flops


DEVICES: Final[Mapping[str, Device]] = {
    "cpu": Device("2 CPU cores", 0.1e12, 0.1e12, 15e9, 0.3e-3),
    "a100": Device("one A100-40GB", ARITHMETIC * 312e12, FLOAT32_ARITHMETIC * 19.5e12, MEMORY * 1.55e12, 0.8e-3),
    "h200": Device("one H200", ARITHMETIC * 989e12, FLOAT32_ARITHMETIC * 67e12, MEMORY * 4.8e12, 0.6e-3),
}
"""Shares of the peaks in NVIDIA's data sheets; the CPU's after a few measurements."""


def hours_by_part(settings: Settings, model: ModelSize, device: Device) -> dict[str, float]:
    """Hours of the cycle, of the responses to held-out prompts before and after it, and of the rewards of all.

    The rewards are left out where the reward model's size is unknown.
    """
    seconds = {
        "cycle": rounds(settings) * _round_seconds(settings, model, device),
        "held-out responses": OWN_SYSTEMS * _held_out_seconds(settings, model, device),
    }
    reward = reward_model_parameters(settings)
    if reward:
        seconds["rewards"] = scored_responses(settings) * _reward_seconds(settings, reward, model, device)
    return {part: each / 3600 for part, each in seconds.items()}


def _round_seconds(settings: Settings, model: ModelSize, device: Device) -> float:
    """One pass each for prompt, log-probabilities, training forward and training backward, and the decoding.

    Under LoRA a backward pass costs about as much as a forward one. Ranks decode side by side: more of them sample a
    wave no sooner.
    """
    training, reply = settings.training, settings.white_box.sampling.max_new_tokens
    one_pass = _pass_seconds(sum(example_tokens(settings)), model, device)
    scored = prompts_of_a_rank(settings, training.wave) / training.wave
    trained = examples_of_a_rank(settings) / training.examples
    decoding = reply * _token_seconds(settings, sampled_rows(settings), reply, model, device)
    return 2 * (scored + trained) * one_pass + decoding / training.wave


def _held_out_seconds(settings: Settings, model: ModelSize, device: Device) -> float:
    """Of one system: a pass over every prompt, and batch by batch the decoding."""
    prompts, reply = held_out_prompts(settings), settings.evaluation.sampling.max_new_tokens
    batches = -(-prompts // settings.evaluation.batch)
    tokens = max(0, settings.white_box.max_length - reply)
    rows = held_out_rows(settings)
    each = _pass_seconds(rows * tokens, model, device)
    return batches * (each + reply * _token_seconds(settings, rows, reply, model, device))


def _pass_seconds(tokens: int, model: ModelSize, device: Device) -> float:
    """A forward pass over so many tokens."""
    arithmetic = 2 * model.parameters * tokens / device.flops_at(model.number_bytes)
    return max(model.layers * device.layer_seconds, arithmetic)


def _token_seconds(settings: Settings, rows: int, reply: int, model: ModelSize, device: Device) -> float:
    """A token for each row: the weights are read once for all of them, and each row's cache, half-way on average."""
    length = settings.white_box.max_length - reply / 2
    return max(model.layers * device.layer_seconds, (model.weights + model.cache(rows, length)) / device.bandwidth)


def _reward_seconds(settings: Settings, reward: int, model: ModelSize, device: Device) -> float:
    """A response scored: a forward pass over its dialogue, on one device however many ranks there are."""
    tokens = min(REWARD_TOKENS, settings.white_box.max_length)
    number_bytes = 4 if settings.evaluation.reward_model == "oasst" else model.number_bytes
    return 2 * reward * tokens / device.flops_at(number_bytes)
