"""The named SQL files: loading them, and listing the ones that are meant for users.

A query's name is its path below `sql/queries/` without the ending (`runs/insert`); files of `sql/exhibits/`
and `sql/dialogues/` carry that folder's name (`exhibits/run_losses`). Leaves out: running them
(`storage.ledger`).
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from cyclealign.errors import UsageError

BESIDE_QUERIES = ("exhibits", "dialogues", "questions", "schema", "views", "views_exhibits")
FOR_USERS = "questions"


@cache
def load(name: str) -> str:
    """The text of a named SQL file.

    Raises:
        UsageError: there is no such file.
    """
    beside = name.split("/", maxsplit=1)[0] in BESIDE_QUERIES
    file = files("sql").joinpath(*([] if beside else ["queries"]), *f"{name}.sql".split("/"))
    if not file.is_file():
        raise UsageError(f"No query {name!r}. Queries for users: {', '.join(for_users())}.")
    return file.read_text(encoding="utf-8")


def fill(name: str, words: Mapping[str, str]) -> str:
    """The text of a named SQL file with words replaced: names of tables and columns, never values of users."""
    text = load(name)
    for word, replacement in words.items():
        text = text.replace(word, replacement)
    return text


def for_users() -> list[str]:
    """Names of the shipped questions that a user can ask, without their folder."""
    folder = files("sql").joinpath(FOR_USERS)
    return sorted(file.name.removesuffix(".sql") for file in folder.iterdir() if file.name.endswith(".sql"))


def header(name: str) -> str:
    """The comment at the top of a named SQL file, without its dashes."""
    lines: list[str] = []
    for line in load(name).splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return "\n".join(lines)


def parameters(statement: str) -> list[str]:
    """The names of a statement's parameters."""
    return sorted(set(re.findall(r"\$(\w+)", statement)))
