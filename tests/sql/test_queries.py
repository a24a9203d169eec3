"""Guards on the query files: each is one statement, is used, and runs."""

from pathlib import Path

import duckdb
import pytest

import sql
import storage
from storage import queries

FOLDER = Path(sql.__path__[0])
FILES = (
    sorted((FOLDER / "queries").rglob("*.sql"))
    + sorted((FOLDER / "questions").glob("*.sql"))
    + sorted((FOLDER / "dialogues").glob("*.sql"))
)
NAMES = [str(path.relative_to(FOLDER).with_suffix("")).removeprefix("queries/") for path in FILES]
CODE = "\n".join(path.read_text() for path in Path(storage.__path__[0]).glob("*.py"))
LEDGER_QUERIES = [name for name in NAMES if not name.startswith("dialogues/")]
BESIDE = ("of_steps", "ledger/attach", "ledger/both", "ledger/put_postings", "ledger/put_rows")
"""They cannot be explained; every test of a ledger runs them."""
WORDS = {
    "this_table": "registrations",
    "this_key": "run_name",
    "this_content": "run_name, profile",
    "these_columns": "run_name, profile",
    "this_choice": "true",
    "this_id": "run_name",
}
"""For templates."""


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    opened = duckdb.connect()
    for name in ("other", "before", "ledger"):
        opened.execute(f"attach ':memory:' as {name}")
        opened.execute(f"use {name}.main")
        opened.execute(queries.load("schema") + queries.load("views") + queries.load("views_exhibits"))
    opened.execute("create schema tail; use ledger.tail;" + queries.load("schema") + "use ledger.main")
    return opened


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("questions/")])
def test_a_query_is_used(name: str) -> None:
    folder, _, base = name.partition("/")
    rules = folder == "dialogues" and f'"{base}"' in CODE  # named by dialogues.RULES
    assert rules or f'"{name}"' in CODE


@pytest.mark.parametrize("name", [name for name in LEDGER_QUERIES if name not in BESIDE])
def test_a_query_fits_the_ledgers_schema(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    text = queries.fill(name, WORDS) if "Template:" in queries.header(name) else queries.load(name)
    (statement,) = duckdb.extract_statements(text)
    parameters = dict.fromkeys(statement.named_parameters)
    assert connection.execute(f"explain {text}", parameters or None).fetchall()
