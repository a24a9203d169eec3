"""What the sections of the settings are made of: their base, bounded numbers, and fields that change no result.

Leaves out what settings there are (`settings`).
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, lt=2**31)]


def operational(default: Any, **constraints: Any) -> Any:
    """A field that does not influence results and so is no part of the settings digest."""
    return Field(default, json_schema_extra={"operational": True}, **constraints)


def added(default: Any, **constraints: Any) -> Any:
    """A field that influences results and came later: at its default it stays out of digests, so old ones hold."""
    return Field(default, json_schema_extra={"added": True}, **constraints)


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


def fields_of(section: BaseModel, *, operational: bool) -> dict[str, Any]:
    """The fields of a section and those below it that are operational, or those that are not."""
    kept: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        extra, value = info.json_schema_extra, getattr(section, name)
        marks = extra if isinstance(extra, Mapping) else {}
        is_operational = bool(marks.get("operational"))
        if marks.get("added") and value == info.default:
            continue
        if isinstance(value, BaseModel) and not is_operational:
            kept[name] = fields_of(value, operational=operational)
        elif is_operational == operational:
            kept[name] = json.loads(json.dumps(value, default=BaseModel.model_dump))
    return kept
