"""The ledgers that exhibits are asked of."""

from collections.abc import Iterator

import duckdb
import pytest

from tests.plain_ledger import plain_connection
from tests.sql.rows import evaluate, register


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """In memory, with one registered run of four steps."""
    with plain_connection() as opened:
        register(opened)
        yield opened


@pytest.fixture
def evaluated(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The same with responses of three systems to three prompts."""
    evaluate(connection)
    return connection
