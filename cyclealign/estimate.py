"""What a run will need before anything is spent: calls, tokens, dollars, memory, hours, disk.

All of it is arithmetic on the settings and on a model's number of parameters; nothing is measured here, and
the results are estimates, good to a factor of about two, for prompts and responses at their longest and all rounds
used. Leaves out printing and storing (`tasks.estimating`) and the memory's phases (`model_sizes`); of the hours,
waiting for answers, loading, writing, stand-ins of the offline profiles, a pairwise judge, and the effects of 4-bit
weights, compiled passes and a vLLM server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from cyclealign.black_box.prices import Prices
from cyclealign.data.hh_rlhf import TABLE_6
from cyclealign.method.demonstrations import STATIC_DEMONSTRATION, Demonstration
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.model_sizes import REWARD_TOKENS, Load, memory_by_phase, reward_model_parameters, trained_parameters
from cyclealign.settings import Settings

CHARACTERS_PER_TOKEN: Final = 4.0
"""Of English text, for tokenizers with large vocabularies."""
GIB: Final = 2**30
ROW_BYTES: Final = 12_000
"""Of the ledger per round: texts, tokens, request and reply, compressed."""
CHECKPOINT_BYTES: Final = 12
"""Per trained parameter: float32 weight and Adam's two moments."""
CHECKPOINTS_AT_ONCE: Final = 4
"""The two that are kept, the one being written, and the adapter at the end."""
OTHER_BYTES: Final = 64 * 2**20
"""Prepared data, report, logs, Prefect's database of a run."""
REWARD_DISK_BYTES: Final = 4
"""Per parameter of a reward model from the hub, at most."""
OWN_SYSTEMS: Final = 2
"""Whose responses a run's evaluation compares: the white box before and after."""
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
    """Of `calls_high`, each asked once; None: the price is unknown."""
    usd_at_most: Decimal | None
    """The same where each answer comes to its limit in every ask, and each byte of a prompt is a token."""


@dataclass(frozen=True, slots=True)
class MachineEstimate:
    """A run on the devices of its ranks."""

    device: str
    """With several ranks, how many of which."""
    memory_gib: float
    """Of each device in the phase that takes most."""
    memory_by_phase: Mapping[str, float]
    """GiB, highest first; see `model_sizes`."""
    hours: float
    """All parts together; the waiting for answers comes on top unless it overlaps."""
    hours_by_part: Mapping[str, float]
    """Cycle, held-out responses and rewards; without the latter where the reward model's size is unknown."""
    disk_gib: float
    """Weights of both models, checkpoints and ledger."""


def estimate_calls(settings: Settings, mean_prompt_characters: float) -> CallEstimate:
    """Calls, tokens and dollars of a run whose prompts are so long on average."""
    method, reply, calls = settings.method, settings.white_box.sampling.max_new_tokens, rounds(settings)
    instruction, response = "x" * round(mean_prompt_characters), "x" * round(reply * CHARACTERS_PER_TOKEN)
    shown = [] if method.icl == "off" else [STATIC_DEMONSTRATION]
    if method.icl == "full":  # the pool is full, each an agreement of two
        shown += [Demonstration(instruction, (response, response), (0, 1))] * method.demonstration_capacity
    rewrites = method.rewrite != "off"
    text = render_ranking_prompt(instruction, [response] * method.candidates, shown, rewrite=rewrites)
    prompt = round(len(text) / CHARACTERS_PER_TOKEN)
    completion = min(settings.black_box.max_tokens, rewrites * reply + 8 * method.candidates)
    prices, model, asks = Prices(settings.black_box), settings.black_box.model, settings.black_box.asks
    usd = prices.cost_usd(model, prompt, completion)
    body = {"model": model, "messages": [{"content": text}], "max_tokens": settings.black_box.max_tokens}
    worst = prices.worst_case_usd(body)
    return CallEstimate(
        calls_low=settings.data.prompts,
        calls_high=calls,
        prompt_tokens=calls * prompt,
        completion_tokens=calls * completion,
        usd=None if usd is None else calls * usd,
        usd_at_most=None if worst is None else calls * asks * worst,
    )


def estimate_machine(settings: Settings, parameters: int, device: str = "a100") -> MachineEstimate:
    """Memory, hours and disk of a run whose white box has so many parameters, on `DEVICES`, one for each rank."""
    load, ranks = Load(settings, parameters, device), settings.training.ranks
    memory = {phase: used / GIB for phase, used in memory_by_phase(load).items()}
    hours = {part: seconds / 3600 for part, seconds in _seconds_by_part(load).items()}
    reward = REWARD_DISK_BYTES * (reward_model_parameters(settings) or 0)
    name = f"{DEVICES[device].name}, {load.dtype}"
    return MachineEstimate(
        device=name if ranks == 1 else f"{ranks} ranks, each {name}",
        memory_gib=max(memory.values()),
        memory_by_phase=memory,
        hours=sum(hours.values()),
        hours_by_part=hours,
        disk_gib=(load.weights + reward + home_bytes(settings, parameters)) / GIB,
    )


def home_bytes(settings: Settings, parameters: int | None) -> int:
    """What a run writes into its home at most, the weights of its model aside.

    Checkpoints and adapter, and the ledger, the copy that becomes the next one, and journals at most as large. Of a
    model whose size is unknown (None), checkpoints are not counted.
    """
    trained = 0 if parameters is None else trained_parameters(settings.white_box.lora, parameters)
    ledgers = 3 * rounds(settings) * ROW_BYTES
    return round(CHECKPOINTS_AT_ONCE * trained * CHECKPOINT_BYTES + ledgers) + OTHER_BYTES


def rounds(settings: Settings) -> int:
    """Of a run whose steps all use all their rounds."""
    return settings.data.prompts * settings.method.rounds


def held_out_prompts(settings: Settings) -> int:
    """Of the evaluation, before any filter where all are taken."""
    each, subsets = settings.evaluation.prompts_per_subset, settings.data.subsets
    if each is not None:
        return each * len(subsets)
    if settings.data.source == "world":
        return settings.world.test_pairs
    tests = {name: pairs for name, pairs in TABLE_6.items() if name.endswith("/test")}
    return sum(tests.get(f"{subset}/test", max(tests.values())) for subset in subsets)


def _seconds_by_part(load: Load) -> dict[str, float]:
    """Of the cycle, of the responses to held-out prompts before and after it, and of the rewards of all.

    A reward is a forward pass over a dialogue, on one device however many ranks there are.
    """
    settings, device = load.settings, DEVICES[load.device]
    seconds = {
        "cycle": rounds(settings) * _round_seconds(load, device),
        "held-out responses": OWN_SYSTEMS * _held_out_seconds(load, device),
    }
    reward, evaluation = reward_model_parameters(settings), settings.evaluation
    if reward:
        candidates = rounds(settings) * settings.method.candidates if evaluation.score_candidates else 0
        tokens = min(REWARD_TOKENS, settings.white_box.max_length)
        flops = device.flops_at(4 if evaluation.reward_model == "oasst" else load.number_bytes)
        seconds["rewards"] = (OWN_SYSTEMS * held_out_prompts(settings) + candidates) * (2 * reward * tokens / flops)
    return seconds


def _round_seconds(load: Load, device: Device) -> float:
    """One pass each for prompt, log-probabilities, training forward and training backward, and the decoding.

    Under LoRA a backward pass costs about as much as a forward one. Ranks decode side by side: more of them sample a
    wave no sooner.
    """
    training, reply = load.settings.training, load.settings.white_box.sampling.max_new_tokens
    scored, trained = load.wave / training.wave, load.examples / training.examples
    decoding = reply * _token_seconds(load, load.sampled_rows, reply, device)
    return 2 * (scored + trained) * _pass_seconds(load, sum(load.example_tokens), device) + decoding / training.wave


def _held_out_seconds(load: Load, device: Device) -> float:
    """Of one system: a pass over every prompt, and batch by batch the decoding."""
    evaluation, rows = load.settings.evaluation, load.held_out_rows
    reply = evaluation.sampling.max_new_tokens
    tokens = max(0, load.settings.white_box.max_length - reply)
    batches = -(-held_out_prompts(load.settings) // evaluation.batch)
    return batches * (_pass_seconds(load, rows * tokens, device) + reply * _token_seconds(load, rows, reply, device))


def _pass_seconds(load: Load, tokens: int, device: Device) -> float:
    """A forward pass over so many tokens."""
    arithmetic = 2 * load.parameters * tokens / device.flops_at(load.number_bytes)
    return max(load.shape[0] * device.layer_seconds, arithmetic)


def _token_seconds(load: Load, rows: int, reply: int, device: Device) -> float:
    """A token for each row: the weights are read once for all of them, and each row's cache, half-way on average."""
    length = load.settings.white_box.max_length - reply / 2
    return max(load.shape[0] * device.layer_seconds, (load.weights + load.cache(rows, length)) / device.bandwidth)
