"""Brings a ledger's schema up to date: numbered SQL files; all that it lacks in one transaction, with their record."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import duckdb

from cyclealign.errors import LedgerForeign
from storage import queries


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Of the statements alone: comments and white space may be corrected after a release."""
        statements = " ".join(re.sub(r"--.*", "", self.sql).split())
        return hashlib.sha256(statements.encode()).hexdigest()[:16]


@cache
def shipped() -> tuple[Migration, ...]:
    """The migrations of this version, in order."""
    found = sorted(files("sql").joinpath("migrations").iterdir(), key=lambda file: file.name)
    texts = [(file.name.removesuffix(".sql"), file) for file in found if file.name.endswith(".sql")]
    return tuple(Migration(int(name[:4]), name[5:], file.read_text(encoding="utf-8")) for name, file in texts)


def migrate(connection: duckdb.DuckDBPyConnection, path: Path, migrations: Sequence[Migration] | None = None) -> bool:
    """Apply the migrations that the ledger behind `connection` lacks; when one fails, none leaves a trace.

    True when it lacked any.

    Raises:
        LedgerForeign: the file holds tables but is no ledger, or was written by another version of the
        schema.
    """
    migrations = shipped() if migrations is None else migrations
    applied = _applied(connection, path)
    _check_known(applied, migrations, path)
    missing = [one for one in migrations if one.version not in applied]
    if missing:
        _apply(connection, missing)
    return bool(missing)


def older_version(connection: duckdb.DuckDBPyConnection) -> int | None:
    """The schema version of a ledger that `migrate` would change; None of every other file."""
    if "schema_migrations" not in _tables(connection):
        return None
    newest = max(version for version, _ in connection.execute(queries.load("schema/applied")).fetchall())
    return int(newest) if newest < shipped()[-1].version else None


def _tables(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {name for (name,) in connection.execute(queries.load("schema/tables")).fetchall()}


def _applied(connection: duckdb.DuckDBPyConnection, path: Path) -> dict[int, str]:
    tables = _tables(connection)
    if not tables:
        return {}
    if "schema_migrations" not in tables:
        raise LedgerForeign(
            f"{path} holds the tables {', '.join(sorted(tables)[:5])}, expected a ledger of cyclealign. "
            f"Move the file and the .wal beside it away, or choose another home with CYCLEALIGN_HOME."
        )
    return dict(connection.execute(queries.load("schema/applied")).fetchall())


def _check_known(applied: dict[int, str], migrations: Sequence[Migration], path: Path) -> None:
    known = {migration.version: migration.checksum for migration in migrations}
    newest = max(known)
    if max(applied, default=0) > newest:
        raise LedgerForeign(
            f"{path} has schema version {max(applied)}, expected at most {newest}: it was written by a newer "
            f"cyclealign. Use that version, or choose another home with CYCLEALIGN_HOME."
        )
    changed = [version for version, checksum in applied.items() if known.get(version) != checksum]
    if changed:
        raise LedgerForeign(
            f"{path} was made by a different migration {changed[0]} than this version's: it was written by an "
            "unreleased cyclealign. Move the file and the .wal beside it away, or choose another home with "
            "CYCLEALIGN_HOME."
        )


def _apply(connection: duckdb.DuckDBPyConnection, missing: Sequence[Migration]) -> None:
    """All in one transaction: a ledger that stopped between two versions could be used by neither."""
    connection.begin()
    try:
        connection.execute(queries.load("schema/create"))
        for migration in missing:
            connection.execute(migration.sql)
            values = {"version": migration.version, "name": migration.name, "checksum": migration.checksum}
            connection.execute(queries.load("schema/record"), values)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
