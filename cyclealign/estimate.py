"""What a run will need before anything is spent: calls, tokens, dollars, memory, hours, disk.

All of it is arithmetic on the settings and on a model's number of parameters; nothing is measured here, and
the results are estimates, good to a factor of about two. `cyclealign estimate` prints it. Leaves out: the prices
(`cyclealign.black_box.prices`), printing and storing (`tasks.estimating`), and how memory and hours come about
(`estimated_memory`, `estimated_hours`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from cyclealign.black_box.prices import Prices
from cyclealign.estimated_hours import DEVICES, hours_by_part
from cyclealign.estimated_memory import memory_by_phase, reward_model_parameters
from cyclealign.method.demonstrations import STATIC_DEMONSTRATION, Demonstration
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.model_sizes import dtype_on, size_on, trained_parameters
from cyclealign.settings import MethodSettings, Settings
from cyclealign.workload import rounds

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
    """A run on the devices of its ranks, every prompt and response at its longest, all rounds used."""

    device: str
    """With several ranks, how many of which."""
    memory_gib: float
    """Of each device in the phase that takes most."""
    memory_by_phase: Mapping[str, float]
    """GiB, highest first; see `estimated_memory`."""
    hours: float
    """All parts together; the waiting for answers comes on top unless it overlaps."""
    hours_by_part: Mapping[str, float]
    """Cycle, held-out responses and rewards; see `estimated_hours`."""
    disk_gib: float
    """Weights of both models, checkpoints and ledger."""


def estimate_calls(settings: Settings, mean_prompt_characters: float) -> CallEstimate:
    """Calls, tokens and dollars of a run whose prompts are so long on average."""
    reply = settings.white_box.sampling.max_new_tokens
    calls = rounds(settings)
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
    """Memory, hours and disk of a run whose white box has so many parameters, on `DEVICES`, one for each rank."""
    model, ranks = size_on(settings.white_box, parameters, device), settings.training.ranks
    memory = {phase: used / GIB for phase, used in memory_by_phase(settings, model).items()}
    hours = hours_by_part(settings, model, DEVICES[device])
    reward = REWARD_DISK_BYTES * (reward_model_parameters(settings) or 0)
    name = f"{DEVICES[device].name}, {dtype_on(settings.white_box, device)}"
    return MachineEstimate(
        device=name if ranks == 1 else f"{ranks} ranks, each {name}",
        memory_gib=max(memory.values()),
        memory_by_phase=memory,
        hours=sum(hours.values()),
        hours_by_part=hours,
        disk_gib=(model.weights + reward + home_bytes(settings, parameters)) / GIB,
    )


def home_bytes(settings: Settings, parameters: int | None) -> int:
    """What a run writes into its home at most, the weights of its model aside.

    Checkpoints and adapter, and the ledger with its snapshot and the copy that becomes the next snapshot. Of a
    model whose size is unknown (None), checkpoints are not counted.
    """
    trained = 0 if parameters is None else trained_parameters(settings.white_box.lora, parameters)
    ledgers = 3 * rounds(settings) * ROW_BYTES
    return round(CHECKPOINTS_AT_ONCE * trained * CHECKPOINT_BYTES + ledgers) + OTHER_BYTES


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
