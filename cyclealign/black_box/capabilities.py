"""Which sampling parameters a family of chat models takes, and the parameters of a request's body.

One row per family, first match wins, everything unknown counts as a plain server of the protocol. Sources: the
docstrings of `openai` 3.54 (`types/chat/completion_create_params.py`: o-series models do not take the deprecated
`max_tokens`), OpenAI's reasoning guide and the section "parameter compatibility" of its latest-model guide (sampling
parameters only at effort `none`, which exists from gpt-5.1 on), and the HTTP 400 bodies that users report
(`unsupported_parameter`, `unsupported_value`). Not checked against the live API. The rows are first guesses: what an
endpoint really takes is found out before it is paid (`tasks.asking.probe`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from cyclealign.errors import UsageError
from cyclealign.settings import BlackBoxSettings

LIMITS: Final = ("max_completion_tokens", "max_tokens")
"""The names of the limit on completion tokens."""
OPTIONAL: Final = ("response_format", "temperature", "reasoning_effort", "seed")
"""Parameters that a request can do without, those first that servers refuse most."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one family of models takes."""

    family: str
    pattern: str
    """Regular expression that a model's name begins with."""
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_completion_tokens"
    """The name of the limit on completion tokens; those of reasoning count too."""
    temperature: Literal["always", "without_reasoning", "never"] = "always"
    """`without_reasoning`: only with `reasoning_effort: none`."""
    reasoning_effort: bool = False
    json_object: bool = True


FAMILIES = (
    Capabilities("GPT-5 chat", r"gpt-5(\.\d+)?-chat"),
    Capabilities("GPT-5", r"gpt-5(-|$)", temperature="never", reasoning_effort=True),
    Capabilities("GPT-5.1 and later", r"gpt-(5\.|[6-9]|\d\d)", temperature="without_reasoning", reasoning_effort=True),
    Capabilities("o series", r"o\d", temperature="never", reasoning_effort=True),
    Capabilities("GPT-4o and GPT-4.1", r"(chatgpt-4o|gpt-4o|gpt-4\.\d)"),
    Capabilities("GPT-4, 2023", r"gpt-4(-0314|-0613|-32k.*)?$", limit="max_tokens", json_object=False),
)
OTHER = Capabilities("any other server of the protocol", r"", limit="max_tokens", reasoning_effort=True)
"""Also gpt-3.5-turbo and the later snapshots of gpt-4."""


def capabilities_of(model: str) -> Capabilities:
    """The row for a model's name; a gateway's prefix (`openai/gpt-5-mini`) is ignored."""
    name = model.rsplit("/", 1)[-1].lower()
    return next((family for family in FAMILIES if re.match(family.pattern, name)), OTHER)


def parameters_for(settings: BlackBoxSettings, seed: int | None) -> dict[str, Any]:
    """Everything of a request's body besides model and messages.

    `json_mode` asks for JSON mode where the model has it; the prompt asks for JSON in any case. The seed is
    cut to 31 bits, which every server can read.

    Args:
        settings: The wanted parameters.
        seed: For this one draw; not sent unless `black_box.seed` is on.

    Raises:
        UsageError: a parameter was set that the model does not take; leaving it out would be another setting.
    """
    takes = capabilities_of(settings.model)
    _check(settings, takes)
    parameters: dict[str, Any] = {takes.limit: settings.max_tokens}
    if settings.temperature is not None:
        parameters["temperature"] = settings.temperature
    if settings.reasoning_effort is not None:
        parameters["reasoning_effort"] = settings.reasoning_effort
    if settings.json_mode and takes.json_object:
        parameters["response_format"] = {"type": "json_object"}
    if settings.seed and seed is not None:
        parameters["seed"] = seed % 2**31
    return parameters


def body_of(settings: BlackBoxSettings, text: str, seed: int) -> dict[str, Any]:
    """A request of one user message; `seed` goes with it where the settings want one."""
    messages = [{"role": "user", "content": text}]
    return {"model": settings.model, "messages": messages, **parameters_for(settings, seed)}


def parameters_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Everything of a request's body besides model and messages."""
    return {name: value for name, value in body.items() if name not in ("model", "messages")}


def _check(settings: BlackBoxSettings, takes: Capabilities) -> None:
    wanted = {"temperature": takes_temperature(settings), "reasoning_effort": takes.reasoning_effort}
    wrong = [f"black_box.{name}" for name, taken in wanted.items() if getattr(settings, name) is not None and not taken]
    if wrong:
        allowed = " or set black_box.reasoning_effort=none" if takes.temperature == "without_reasoning" else ""
        raise UsageError(
            f"{settings.model} ({takes.family}) does not take {' and '.join(wrong)}: "
            f"remove it (null){allowed}, or choose another black_box.model."
        )


def takes_temperature(settings: BlackBoxSettings) -> bool:
    """Whether the model takes a temperature under these settings."""
    takes = capabilities_of(settings.model).temperature
    return takes == "always" or (takes == "without_reasoning" and settings.reasoning_effort == "none")
