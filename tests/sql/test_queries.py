"""Guards on the query files: each says what it is, is one statement in lower case, is used, and runs."""

import re
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
SELECTS = ("select", "with")
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


def body(name: str) -> str:
    """The statements without comments and texts."""
    return re.sub(r"E?'[^']*'", "''", re.sub(r"--.*", "", queries.load(name))).strip()


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    opened = duckdb.connect()
    for name in ("other", "before", "ledger"):
        opened.execute(f"attach ':memory:' as {name}")
        opened.execute(f"use {name}.main")
        opened.execute(queries.load("schema") + queries.load("views") + queries.load("views_exhibits"))
    opened.execute("create schema tail; use ledger.tail;" + queries.load("schema") + "use ledger.main")
    return opened


@pytest.mark.parametrize("name", NAMES)
def test_a_query_says_what_it_is_for_and_what_a_row_is(name: str) -> None:
    about = queries.header(name)
    assert len(about.splitlines()[0]) > 20
    reads = body(name).startswith(SELECTS) and not re.search(r"^(insert|update)", body(name), re.MULTILINE)
    if reads or "returning" in body(name):
        assert re.search(r"\bone row per\b", about, re.IGNORECASE), "say what one row is"


@pytest.mark.parametrize("name", NAMES)
def test_a_query_names_each_of_its_parameters_in_its_header(name: str) -> None:
    missing = [one for one in set(re.findall(r"\$\w+", body(name))) if one not in queries.header(name)]
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_a_query_is_written_in_lower_case(name: str) -> None:
    assert re.findall(r"\b[A-Z]{2,}\w*", body(name)) == []


@pytest.mark.parametrize("name", LEDGER_QUERIES)
def test_a_query_is_one_statement(name: str) -> None:
    assert len(duckdb.extract_statements(queries.load(name))) == 1


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("questions/")])
def test_a_query_is_used(name: str) -> None:
    folder, _, base = name.partition("/")
    rules = folder == "dialogues" and f'"{base}"' in CODE  # named by dialogues.RULES
    assert rules or f'"{name}"' in CODE


@pytest.mark.parametrize("name", [name for name in LEDGER_QUERIES if name not in BESIDE])
def test_a_query_fits_the_ledgers_schema(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    text = queries.fill(name, WORDS) if "Template:" in queries.header(name) else queries.load(name)
    statement = duckdb.extract_statements(text)[0]
    parameters = dict.fromkeys(statement.named_parameters)
    assert connection.execute(f"explain {text}", parameters or None).fetchall()
