"""What holds for every exhibit of a run; what a run is, what it was made of, and what it took."""

import json
from importlib.resources import files

import duckdb
import pytest

from tests.sql.evaluated_run import NOW, RUN, ask, insert
from tests.sql.registered_run import ROUND, evaluate

CALL = {"run_name": RUN, "purpose": "ranking", "model": "m", "origin": "o", "slot": "[]", "request": "{}"}
ATTEMPT = {"run_name": RUN, "process_host": "h", "process_id": 1, "process_started_at": 0.0, "started_at": NOW}
EXHIBITS = sorted(
    path.name.removesuffix(".sql")
    for path in files("sql").joinpath("exhibits").iterdir()
    if path.name.startswith("run_")
)


@pytest.mark.parametrize("exhibit", EXHIBITS)
def test_every_exhibit_says_its_purpose_its_parameters_and_its_grain(exhibit: str) -> None:
    lines = files("sql").joinpath("exhibits", f"{exhibit}.sql").read_text().splitlines()
    header = [line for line in lines if line.startswith("--")]
    assert header[1].startswith("-- Parameters: $run_name")
    assert any(line.startswith("-- One row per") for line in header)


@pytest.mark.parametrize("exhibit", [name for name in EXHIBITS if name not in {"run_settings", "run_timings"}])
def test_a_run_that_has_done_nothing_has_no_rows(connection: duckdb.DuckDBPyConnection, exhibit: str) -> None:
    text = files("sql").joinpath("exhibits", f"{exhibit}.sql").read_text()
    given = {"bins": 2, "reward_model": "r"}
    assert ask(connection, exhibit, **{key: value for key, value in given.items() if f"${key}" in text}) == []


def test_run_settings_tells_what_the_run_is_and_how_far_it_got(connection: duckdb.DuckDBPyConnection) -> None:
    insert(connection, "rounds", {**ROUND, "step": 0, "round": 1}, {**ROUND, "step": 0, "round": 2})
    (row,) = ask(connection, "run_settings")
    assert (row["profile"], row["seed"], row["steps"], row["steps_done"], row["rounds"]) == ("laptop", 3, 4, 1, 2)
    assert row["elapsed_seconds"] == 90
    assert json.loads(row["settings"]) == {"method": {"rounds": 5}}


def test_run_spend_charges_unknown_attempts_at_their_reserve_and_tells_what_was_reused(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    tokens = {"prompt_tokens": 100, "completion_tokens": 10, "state": "answered", "asked_at": NOW}
    for key in ("asked", "reused", "of another run"):
        insert(connection, "api_calls", {**CALL, **tokens, "call_key": key})
    insert(
        connection,
        "api_attempts",
        {**ATTEMPT, "call_key": "asked", "state": "unknown", "reserved_usd": "0.5"},
        {**ATTEMPT, "call_key": "asked", "state": "answered", "reserved_usd": "0.5", "cost_usd": "0.25"},
        {**ATTEMPT, "run_name": "other", "call_key": "reused", "state": "answered", "reserved_usd": "1"},
    )
    for step, key in enumerate(("asked", "reused")):
        insert(connection, "rounds", {**ROUND, "step": step, "round": 1, "call_key": key})
    (row,) = ask(connection, "run_spend")
    assert tuple(row.values()) == ("ranking", "m", 2, 1, 2, 100, 10, 0.75)


@pytest.mark.parametrize("source", ["hub", "folder", "world"])
def test_run_filter_stands_beside_table_6_where_the_paper_has_one(
    connection: duckdb.DuckDBPyConnection, source: str
) -> None:
    evaluate(connection)
    options = {"location": "l", "options": "{}", "prepared_at": NOW}
    insert(connection, "datasets", {"dataset_digest": "d", "source": source, **options})
    for subset, split in (("helpful-online", "test"), ("harmless-base", "test"), ("helpful-base", "train")):
        file = {"dataset_digest": "d", "subset": subset, "split": split}
        insert(connection, "dataset_files", {**file, "rows_read": 10, "pairs_kept": 7})
    dropped = {"dataset_digest": "d", "subset": "harmless-base", "split": "test"}
    insert(connection, "filter_drops", {**dropped, "reason": "turns", "pairs_dropped": 2})
    insert(connection, "filter_drops", {**dropped, "reason": "empty", "pairs_dropped": 1})
    insert(connection, "filter_drops", {**dropped, "reason": "identical", "pairs_dropped": 0})
    counts = (None, None, None) if source == "world" else (43835, 2312, 1137)
    assert [tuple(row.values()) for row in ask(connection, "run_filter")] == [
        ("helpful-base", "train", 10, 7, {}, counts[0]),
        ("harmless-base", "test", 10, 7, {"empty": 1, "turns": 2}, counts[1]),
        ("helpful-online", "test", 10, 7, {}, counts[2]),
    ]


def test_run_timings_sums_phases_and_counts_a_waves_waiting_once(connection: duckdb.DuckDBPyConnection) -> None:
    evaluate(connection)
    seconds = {"sampling_seconds": 1.0, "scoring_seconds": 0.5, "waiting_seconds": 2.5, "training_seconds": 1.0}
    insert(
        connection,
        "rounds",
        {**ROUND, **seconds, "step": 0, "round": 1},
        {**ROUND, **seconds, "step": 1, "round": 1, "waiting_seconds": 1.5},
        {**ROUND, **seconds, "step": 2, "round": 1, "wave": 1},
        {**ROUND, **seconds, "step": 2, "round": 2, "wave": 1},
    )
    assert [tuple(row.values()) for row in ask(connection, "run_timings")] == [
        ("sampling", 4.0, pytest.approx(4 / 19.5)),
        ("scoring", 2.0, pytest.approx(2 / 19.5)),
        ("waiting", 7.5, pytest.approx(7.5 / 19.5)),
        ("training", 4.0, pytest.approx(4 / 19.5)),
        ("evaluation", 2.0, pytest.approx(2 / 19.5)),
    ]
