"""Profiles: YAML files and assignments become validated settings, and settings are compared.

Leaves out the settings themselves (`settings`).
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from cyclealign.errors import ProfileInvalid
from cyclealign.settings import Settings


def read_profile(path: Path) -> dict[str, Any]:
    """The mapping in a profile's YAML file.

    Raises:
        ProfileInvalid: the file does not exist, is not YAML or is not a mapping.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProfileInvalid(f"No file {path}. Expected a profile: a YAML file of settings.") from None
    except OSError as error:
        raise ProfileInvalid(f"{path} cannot be read: {error.strerror}. Expected a YAML file.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the latter two: impossible dates, deep nesting
        raise ProfileInvalid(f"{path} is not YAML: {error}. Mend the line it names.") from None
    if not isinstance(loaded, dict):
        raise ProfileInvalid(f"{path} holds {type(loaded).__name__}, expected a mapping of settings.")
    return loaded


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """Nested mapping of `a.b=value` assignments; values are read as YAML.

    Raises:
        ProfileInvalid: an assignment has no `=` or an empty key.
    """
    nested: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not all(key.split(".")):
            raise ProfileInvalid(f"--set {assignment!r}: expected key=value, for example method.rounds=3.")
        *sections, leaf = key.strip().split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ProfileInvalid(f"--set {key}: {section} was already given a plain value.")
        try:
            place[leaf] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError):  # 2024-99-99 is a text, not a date
            place[leaf] = text
    return nested


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `overrides` laid over it, section by section."""
    merged = dict(base)
    for key, value in overrides.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def resolve(profile: str, mapping: Mapping[str, Any], overrides: Mapping[str, Any]) -> Settings:
    """The validated settings of a profile's mapping with overrides.

    Raises:
        ProfileInvalid: naming every key that is unknown or has a wrong value, and what was expected.
    """
    try:
        return Settings.model_validate({"profile": profile, **merge(mapping, overrides)})
    except ValidationError as error:
        problems = "\n".join(f"  {_describe(problem)}" for problem in error.errors())
    raise ProfileInvalid(
        f"Profile {profile!r} does not validate:\n{problems}\n"
        f"Known keys and their meaning: cyclealign/settings.py; worked examples: profiles/."
    )


def _describe(problem: Any) -> str:
    *sections, leaf = map(str, problem["loc"] or ("settings",))
    key = ".".join([*sections, leaf])
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(leaf, _keys_of(sections), n=1)
        return f"{key}: unknown key" + (f"; did you mean {'.'.join([*sections, near[0]])}?" if near else "")
    if problem["type"] == "missing":
        return f"{key}: missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{key}: {message}" + ("" if isinstance(problem["input"], Mapping) else f", found {problem['input']!r}")


def _keys_of(sections: Sequence[str]) -> list[str]:
    """The keys of a section of the settings; none where there is no such section."""
    model: Any = Settings
    for section in sections:
        field = getattr(model, "model_fields", {}).get(section)
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        model = next((kind for kind in kinds if hasattr(kind, "model_fields")), None)
    return list(getattr(model, "model_fields", {}))


def completed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Influential settings as an earlier version stored them, with the settings that were added since.

    An added setting's default does what the code did before it, so old runs continue.
    """
    return Settings.model_validate(stored).influential()


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line per setting in which two influential mappings differ: `key: stored -> wanted`."""
    lines: list[str] = []
    for key in sorted(stored.keys() | wanted.keys()):
        before, after = stored.get(key), wanted.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            shown = [repr(one[key]) if key in one else "its default" for one in (stored, wanted)]
            lines.append(f"{prefix}{key}: {' -> '.join(shown)}")
    return lines
