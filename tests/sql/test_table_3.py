"""Given what a few people said, Table 3 and its verdicts answer with exactly these rows."""

from collections.abc import Iterator
from importlib.resources import files

import duckdb
import pytest

from tests.plain_ledger import plain_connection
from tests.sql.evaluated_run import RUN, ask, compare, evaluate, insert

TABLES = ("table_3", "table_3_verdicts")


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with plain_connection() as opened:
        evaluate(opened)
        yield opened


def say(connection: duckdb.DuckDBPyConnection, who: str, first: str, second: str, verdict: str) -> None:
    """A person's verdict on two generations in the order they were shown."""
    compare(connection, first, second, verdict, judge=who, judge_kind="person", call_key=None)


@pytest.mark.parametrize("exhibit", TABLES)
def test_the_table_says_its_purpose_its_parameters_and_its_grain(exhibit: str) -> None:
    lines = files("sql").joinpath("exhibits", f"{exhibit}.sql").read_text().splitlines()
    header = [line for line in lines if line.startswith("--")]
    assert "(paper, Table 3)" in header[0]
    assert header[1].startswith("-- Parameters: $run_name")
    assert any(line.startswith("-- One row per") for line in header)


def test_verdicts_are_mapped_back_from_the_order_of_presentation(connection: duckdb.DuckDBPyConnection) -> None:
    say(connection, "Ann", "after/p0", "PRO/p0", "first")
    say(connection, "Ann", "PRO/p1", "after/p1", "first")
    say(connection, "Ann", "PRO/p2", "after/p2", "tie")
    assert [tuple(row.values()) for row in ask(connection, "table_3")] == [
        (RUN, "after", "PRO", "harmless-base", 1, 1, 1, 100.0, 0.0, 0.0),
        (RUN, "after", "PRO", "helpful-base", 1, 2, 2, 0.0, 50.0, 50.0),
        (RUN, "after", "PRO", "all", 1, 3, 3, pytest.approx(100 / 3), pytest.approx(100 / 3), pytest.approx(100 / 3)),
    ]


def test_a_prompt_counts_once_however_many_judged_it(connection: duckdb.DuckDBPyConnection) -> None:
    """p1: two of three prefer the trained model, one says tie; p2: one prefers the other. (2/3 + 0) / 2 = 1/3."""
    for who, verdict in (("Ann", "first"), ("Ben", "first"), ("Eve", "tie")):
        say(connection, who, "after/p1", "PRO/p1", verdict)
    say(connection, "Ann", "PRO/p2", "after/p2", "first")
    row = ask(connection, "table_3")[-1]
    assert (row["annotators"], row["verdicts"], row["prompts"]) == (3, 4, 2)
    assert [row[name] for name in ("win", "tie", "lose")] == [pytest.approx(100 * x) for x in (1 / 3, 1 / 6, 1 / 2)]


def test_the_untrained_model_stands_on_the_right(connection: duckdb.DuckDBPyConnection) -> None:
    say(connection, "Ann", "before/p0", "after/p0", "first")
    say(connection, "Ann", "before/p0", "PRO/p0", "first")
    assert {(row["role"], row["against"], row["lose"]) for row in ask(connection, "table_3")} == {
        ("after", "before", 100.0),
        ("PRO", "before", 100.0),
    }


def test_models_and_prompts_outside_the_sample_are_none_of_table_3(connection: duckdb.DuckDBPyConnection) -> None:
    compare(connection, "after/p0", "PRO/p0", "first")
    say(connection, "Ann", "after/elsewhere", "PRO/elsewhere", "first")
    assert ask(connection, "table_3") == []
    assert ask(connection, "table_3_verdicts") == []


def test_verdicts_stand_beside_those_of_models_where_people_compared_the_same_systems(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    say(connection, "Ann", "PRO/p0", "after/p0", "second")
    compare(connection, "after/p0", "PRO/p0", "first")
    compare(connection, "PRO/p0", "after/p0", "first")
    compare(connection, "after/p1", "PRO/p1", "missing")
    compare(connection, "after/p0", "before/p0", "first")
    assert [tuple(row.values())[1:] for row in ask(connection, "table_3_verdicts")] == [
        ("after", "PRO", "harmless-base", "p0", "judge", "model", "tie"),
        ("after", "PRO", "harmless-base", "p0", "Ann", "person", "win"),
    ]


@pytest.mark.parametrize("exhibit", TABLES)
def test_without_a_run_every_run_is_shown(connection: duckdb.DuckDBPyConnection, exhibit: str) -> None:
    say(connection, "Ann", "after/p0", "PRO/p0", "first")
    insert(connection, "run_samples", {"run_name": "another", "purpose": "evaluation", "sample_digest": "s"})
    for role in ("after", "PRO"):
        row = {"run_name": "another", "role": role, "system_id": f"{role}-system", "generation_digest": "g"}
        insert(connection, "run_systems", row)
    assert {row["run_name"] for row in ask(connection, exhibit, run_name=None)} == {RUN, "another"}
    assert {row["run_name"] for row in ask(connection, exhibit)} == {RUN}
