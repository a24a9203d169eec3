"""Facts: frozen data classes, each a row of a table of `sql/schema.sql`; the row is derived from the class here alone.

A class says its table with `@fact("table")`. Its fields are the table's columns except for the time of recording, which
the journal adds. Leaves out what facts there are (the modules of `storage` named after what they keep) and where they
go (`storage.journal`, `storage.ledger`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")
Row = Mapping[str, Any]
_tables: dict[type, tuple[str, tuple[str, ...]]] = {}
_adapters: dict[type, TypeAdapter[Any]] = {}


def fact(table: str, *derived: str) -> Callable[[type[T]], type[T]]:
    """Makes a frozen data class the fact behind the rows of `table`, where its properties `derived` are columns too."""

    def register(kind: type[T]) -> type[T]:
        _tables[kind] = (table, derived)
        return kind

    return register


def entry(one: object) -> bytes:
    """A fact as it stands in a journal: `["table", {column: value, …}]` in JSON."""
    table, derived = _tables[type(one)]
    row = _adapter(type(one)).dump_json(one, fallback=_plain)
    if derived:
        row = row[:-1] + b"," + json.dumps({name: getattr(one, name) for name in derived}).encode()[1:]
    return b'["%s",%s]' % (table.encode(), row)


def value(kind: type[T], row: Row) -> T:
    """The fact of this kind in a row with its columns; columns that are no fields are ignored."""
    found: T = _adapter(kind).validate_python(row)
    return found


def values(kind: type[T], rows: Sequence[Row]) -> list[T]:
    """The same for many rows."""
    return [value(kind, row) for row in rows]


def from_json(text: str | None) -> Any:
    """The value in a column of type JSON."""
    return None if text is None else json.loads(text)


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def _plain(one: Any) -> Any:
    """Values of settings and identities that JSON does not know, such as numpy's numbers."""
    return one.item() if hasattr(one, "item") else str(one)
