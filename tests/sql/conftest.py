"""The ledger that most exhibits of a run are asked of."""

from collections.abc import Iterator

import duckdb
import pytest

from tests.sql.registered_run import registered_run


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """In memory, with one registered run of four steps."""
    with registered_run() as opened:
        yield opened
