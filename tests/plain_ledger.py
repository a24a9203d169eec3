"""A ledger whose views are tables, for tests that give the rows of questions and exhibits as these read them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from storage import queries
from storage.ledger import Ledger, Session


def plain_connection() -> duckdb.DuckDBPyConnection:
    """An empty table in the place of every table of facts and every view on them; what exhibits share are views."""
    connection = duckdb.connect()
    connection.execute("attach ':memory:' as shape")
    connection.execute("use shape.main")
    connection.execute(queries.load("schema") + queries.load("views"))
    tables = connection.execute("select table_name from duckdb_tables() where database_name = 'shape'").fetchall()
    views = connection.execute("select view_name from duckdb_views() where database_name = 'shape' and not internal")
    names = [*tables, *views.fetchall()]
    connection.execute("use memory.main")
    for (name,) in names:
        connection.execute(f"create table {name} as from shape.main.{name} limit 0")
    connection.execute("drop table standing_outcomes")  # rows of outcomes are given in its place
    connection.execute("create view standing_outcomes as from outcomes where state not in ('failed', 'unknown')")
    connection.execute(queries.load("views_exhibits"))
    return connection


class PlainLedger(Ledger):
    """A ledger on such a connection."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.connection = plain_connection()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Read the tables."""
        yield Session(self.connection)

    def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """The answer to a statement."""
        return self.connection.execute(statement, dict(parameters) if parameters else None).df()
