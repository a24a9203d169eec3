"""Runs that train on what another run has: opening them under settings laid over that run's.

Leaves out what they do: `tasks.studies.refolding`, `tasks.studies.baselines`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cyclealign.errors import UsageError
from cyclealign.profiles import differences, merge, resolve
from cyclealign.settings import Settings
from storage import runs
from tasks.context import RunContext, existing_run, run_name

ALWAYS_CHANGEABLE = (
    "seed",
    "training",
    "white_box.model",
    "white_box.revision",
    "white_box.dtype",
    "white_box.quantization",
    "white_box.trust_remote_code",
    "white_box.prompt_format",
    "white_box.system_prompt",
    "white_box.max_length",
    "white_box.lora",
    "method.sft_weight",
)
"""How a model is trained; what it is trained and evaluated on stays that of the source."""


def finished_source(name: str) -> RunContext:
    """The run to learn from.

    Raises:
        RunUnknown: there is no run of this name.
        UsageError: it has not come to its end.
    """
    source = existing_run(name)
    found = runs.status(source.ledger, name)[0]
    if found.state not in runs.DONE:
        raise UsageError(
            f"Run {name!r} is {found.state} at step {found.step} of {found.steps}. Expected a finished run to learn "
            "from: continue it first."
        )
    return source


def derive(source: RunContext, name: str, overrides: Mapping[str, Any], changeable: Sequence[str]) -> RunContext:
    """The context of a run under the source's settings with overrides, not registered yet.

    Raises:
        ProfileInvalid: the settings do not validate.
        UsageError: the name cannot be a run's, or an override would change what the source has recorded.
    """
    settings = overlaid(source.settings, overrides)
    places = (*ALWAYS_CHANGEABLE, *changeable)
    lines = differences(source.settings.influential(), settings.influential())
    if fixed := [f"  {line}" for line in lines if not _below(line.partition(":")[0], places)]:
        listed = "\n".join(fixed)
        raise UsageError(
            f"These settings decide what run {source.name!r} recorded and was evaluated on:\n{listed}\n"
            f"Expected changes of these alone: {', '.join(places)}. Start a new run with `cyclealign train`."
        )
    if settings.preference.model is None and settings.white_box.model != source.settings.white_box.model:
        # the evaluation's preference models go on reading the model that they were fitted on
        settings = overlaid(settings, {"preference": {"model": source.settings.white_box.model}})
    return RunContext(source.home, run_name(settings, name), settings, source.ledger, source)


def overlaid(settings: Settings, overrides: Mapping[str, Any]) -> Settings:
    """Settings with overrides laid over them."""
    mapping = settings.model_dump(mode="json", exclude={"profile"})
    return resolve(settings.profile, merge(mapping, overrides), {})


def _below(key: str, places: Sequence[str]) -> bool:
    return any(key == place or key.startswith(f"{place}.") for place in places)
