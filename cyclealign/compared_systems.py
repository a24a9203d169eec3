"""The systems that an evaluation compares with a run's own model, each under a label.

A system is another run's trained model, a backbone as it comes from a folder or the hub, or a model behind a
chat-completions endpoint. Read from flow parameters or from the command line's `LABEL=kind:VALUE`. Leaves out
loading and asking them (`tasks.evaluation.systems`).
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from cyclealign.errors import UsageError
from cyclealign.settings import BlackBoxSettings, Count, Section

OWN_ROLES = ("before", "after")
"""The run's own model, untrained and trained; no label may be one of them."""
FORMS = "LABEL=run:NAME, LABEL=model:FOLDER_OR_HUB_NAME or LABEL=api:MODEL@BASE_URL"


class ComparedSystem(Section):
    """A label and exactly one of `run`, `model` and `api`."""

    label: Annotated[str, Field(pattern=r"^[\w .()+-]{1,60}$")]
    run: str | None = None
    """A run with a trained adapter."""
    model: str | None = None
    """A causal language model as it is: folder, `.gguf` file or hub name; `world` is the untrained tiny one."""
    revision: str | None = None
    """Of `model` on the hub."""
    prompt_format: Literal["auto", "chat", "plain"] = "auto"
    system_prompt: str | None = None
    """For `model` and `api`; None: no system message."""
    api: BlackBoxSettings | None = None
    """A chat-completions model. Its temperature is that of `evaluation.sampling` unless set here."""
    max_tokens: Count | None = None
    """For `api`, in the place of `evaluation.sampling.max_new_tokens`; `api.max_tokens` is not looked at."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> "ComparedSystem":
        given = [name for name in ("run", "model", "api") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"found {' and '.join(given) or 'none'} of run, model and api, expected one of them")
        if self.label in OWN_ROLES:
            raise ValueError(f"the label {self.label!r} is the run's own, expected another")
        if self.api is not None and self.api.endpoint != "api":
            raise ValueError("api.endpoint must be api: the offline judges rank and compare, they do not chat")
        return self


def parse_system(text: str) -> ComparedSystem:
    """The system of `LABEL=run:NAME`, `LABEL=model:FOLDER_OR_HUB_NAME` or `LABEL=api:MODEL@BASE_URL`.

    Raises:
        UsageError: the text is none of these.
    """
    label, _, rest = text.partition("=")
    kind, _, value = rest.partition(":")
    if not value or kind not in ("run", "model", "api"):
        raise UsageError(f"--system {text!r}: expected {FORMS}.")
    api = None
    if kind == "api":
        model, _, url = value.rpartition("@") if "@" in value else (value, "", "")
        api = {"model": model, **({"base_url": url} if url else {})}
    try:
        return ComparedSystem.model_validate({"label": label, kind: api or value})
    except ValidationError as error:
        problem = str(error.errors()[0]["msg"])
    raise UsageError(f"--system {text!r}: {problem}. Expected {FORMS}.")


def check_labels(systems: Sequence[ComparedSystem]) -> None:
    """Refuse two systems under one label.

    Raises:
        UsageError: naming the label.
    """
    labels = [system.label for system in systems]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UsageError(f"Found two systems under the label {twice[0]!r}, expected a label for each.")
