"""The estimate of a run's cost: `cyclealign estimate` prints it, and a run does before its first paid call."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from cyclealign.black_box.prices import Prices
from cyclealign.disk import require_room
from cyclealign.estimate import (
    ARITHMETIC,
    FLOAT32_ARITHMETIC,
    CallEstimate,
    MachineEstimate,
    estimate_calls,
    estimate_machine,
    home_bytes,
)
from cyclealign.model_sizes import parameter_count
from cyclealign.records import Prompt
from cyclealign.settings import Settings
from storage import runs
from tasks.context import RunContext
from tasks.cycle.progress import say

TYPICAL_PROMPT_CHARACTERS = 631
"""Mean length of a prompt of HH-RLHF, measured over 1,710 test pairs of the four subsets."""

HOURS = ("cycle", "held-out responses", "rewards")
"""The parts of a run's hours in the order in which they come."""
ASSUMED = f"""\
  Hours are for the longest prompts and responses in all rounds, at {100 * ARITHMETIC:.0f} % of a GPU's peak arithmetic
  ({100 * FLOAT32_ARITHMETIC:.0f} % in float32); waiting for answers, loading and a pairwise judge come on top.
  Memory is that of each phase, without what torch and a vLLM server reserve; models whose heads share keys and
  values take less to sample."""


@dataclass(frozen=True)
class Estimate:
    """Money of the ranking calls, and time, memory and disk of one device."""

    profile: str
    calls: CallEstimate
    price_source: str
    cap_usd: float | None
    machines: tuple[MachineEstimate, ...]

    def as_json(self) -> str:
        """The estimate as JSON; money as text, so that nothing is rounded."""
        return json.dumps(asdict(self), indent=2, default=str)

    def as_text(self) -> str:
        """The estimate for people, one line per figure."""
        calls = self.calls
        cap = "no cap" if self.cap_usd is None else f"cap ${self.cap_usd:.2f}"
        lines = [
            f"Profile {self.profile}: estimated, not measured",
            f"  calls     {calls.calls_low:,} to {calls.calls_high:,} ranking calls",
            f"  tokens    {calls.prompt_tokens:,} in, {calls.completion_tokens:,} out, if all rounds are used",
            f"  money     {_dollars(calls)}, {cap} ({self.price_source})",
        ]
        for one in self.machines:
            lines += _machine_lines(one)
        lines.append(ASSUMED if self.machines else "  machine   unknown: the model's name does not tell its size")
        return "\n".join(lines)


def _machine_lines(one: MachineEstimate) -> list[str]:
    """Hours, memory and disk of a run on a device, with their parts."""
    hours = {"rewards": None, **one.hours_by_part}
    parts = ", ".join(f"{part} {_number(hours[part])}" for part in HOURS)
    phases = ", ".join(f"{phase} {_number(used)}" for phase, used in one.memory_by_phase.items())
    return [
        f"  {one.device}: {one.hours:.1f} h, {one.memory_gib:.1f} GiB of memory, {one.disk_gib:.1f} GiB of disk",
        f"    hours     {parts}",
        f"    memory    {phases} GiB",
    ]


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"


def _dollars(calls: CallEstimate) -> str:
    if calls.usd is None:
        return "price unknown, black_box.price sets it"
    return f"about ${calls.usd:.2f}; at most ${calls.usd_at_most:.2f}, if every answer comes to its limit in every ask"


def estimate(settings: Settings, mean_prompt_characters: float = TYPICAL_PROMPT_CHARACTERS) -> Estimate:
    """The estimate of a profile on this machine's kind of device, and on an A100 beside it."""
    parameters = parameter_count(settings.white_box.model)
    offline = settings.black_box.endpoint != "api" or settings.white_box.model == "world"
    devices = ("cpu",) if offline else ("a100", "h200")
    if offline and torch.cuda.is_available():
        devices = ("a100",)
    return Estimate(
        profile=settings.profile,
        calls=estimate_calls(settings, mean_prompt_characters),
        price_source=Prices(settings.black_box).source,
        cap_usd=settings.black_box.budget_usd,
        machines=tuple(estimate_machine(settings, parameters, device) for device in devices if parameters),
    )


def refuse_small_disk(context: RunContext) -> None:
    """Refuse to begin a run that its home has no room for; what the run has written already is not needed again.

    Raises:
        StorageFull: there is less free space than the run is estimated to write.
    """
    wanted = home_bytes(context.settings, parameter_count(context.settings.white_box.model))
    there = sum(file.stat().st_size for file in context.folder.rglob("*") if file.is_file())
    require_room(context.home, wanted - there)


def announce(context: RunContext, prompts: Sequence[Prompt]) -> None:
    """Print and store the estimate for these prompts, where calls cost money."""
    if context.settings.black_box.endpoint != "api":
        return
    mean = sum(len(prompt.instruction) for prompt in prompts) / len(prompts)
    found = estimate(context.settings, mean)
    runs.record_estimate(context.ledger, context.name, json.loads(found.as_json()))
    say(found.as_text())
