"""Answers a user's question: a statement of their own, or the name of a shipped query with parameters."""

import re
import shlex
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from cyclealign.errors import UsageError
from storage import queries
from storage.ledger import Ledger

if TYPE_CHECKING:
    import pandas as pd

LIST = "queries"
"""What a user asks to see the shipped queries."""


def answer(home: Path, question: str) -> "pd.DataFrame":
    """The rows that answer `question`.

    `question` is a reading statement in SQL; or `queries`; or the name of a shipped query with `name=value`
    after it, where parameters that are left out are null (mostly: all).

    Raises:
        UsageError: the statement, the name or a parameter is wrong, or there is no ledger yet.
    """
    words = _words(question)
    if words == [LIST]:
        return _shipped()
    ledger = Ledger(home)
    if words and words[0] in queries.for_users():
        statement = queries.load(f"{queries.FOR_USERS}/{words[0]}")
        return ledger.query(statement, _parameters(words[0], words[1:]))
    try:
        return ledger.query(question)
    except UsageError as error:
        near = get_close_matches(words[0], queries.for_users(), n=1) if words else []
        if not near:
            raise
        raise UsageError(f"{error} Did you mean the shipped query {near[0]}?") from None


def _words(question: str) -> list[str]:
    try:
        return shlex.split(question)
    except ValueError:  # a quote in a statement; names of shipped queries have none
        return []


def _shipped() -> "pd.DataFrame":
    import pandas as pd  # noqa: PLC0415  slow to import

    rows = [(name, queries.header(f"{queries.FOR_USERS}/{name}")) for name in queries.for_users()]
    return pd.DataFrame(rows, columns=["query", "about"])


def _parameters(name: str, assignments: list[str]) -> dict[str, str | None]:
    known = sorted(set(re.findall(r"\$(\w+)", queries.load(f"{queries.FOR_USERS}/{name}"))))
    given = dict(assignment.partition("=")[::2] for assignment in assignments)
    astray = [word for word in assignments if "=" not in word or word.partition("=")[0] not in known]
    if astray:
        raise UsageError(
            f"Query {name} does not know {', '.join(astray)}. Expected name=value with the names "
            f"{', '.join(known) or '(none)'}."
        )
    return {parameter: given.get(parameter) for parameter in known}
