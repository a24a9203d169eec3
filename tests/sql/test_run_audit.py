"""Given a round that was asked about again, the audit's exhibit sets both answers beside each other."""

from collections.abc import Iterator

import duckdb
import pytest

from tests.plain_ledger import plain_connection
from tests.sql.evaluated_run import NOW, RUN, ask, evaluate, insert


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with plain_connection() as opened:
        evaluate(opened)
        yield opened


def audited(connection: duckdb.DuckDBPyConnection) -> None:
    """One round whose three candidates are two texts; ranked 0, 2, 1, and asked again."""
    key = {"run_name": RUN, "step": 0, "round": 1}
    insert(connection, "rounds", {**key, "wave": 0, "prompt_id": "p0", "state": "ranked", "sampled_at": NOW})
    connection.execute("update rounds set permutation = [2, 0, 1], call_key = 'first'")
    for slot, text in enumerate(("twin", "twin", "other")):
        insert(connection, "responses", {**key, "slot": slot, "kind": "candidate", "text": text})
    insert(connection, "rankings", {**key, "ranker": "black_box", "ranking": [0, 2, 1]})
    asked = {"permutation": [0, 1, 2], "ranking": [2, 0, 1], "call_key": "second", "audited_at": NOW}
    insert(connection, "audits", {**key, "audit_seed": 7, **asked})
    call = {"run_name": RUN, "model": "m", "origin": "o", "slot": "[]", "request": "{}", "asked_at": NOW}
    for name, served in (("first", "m-0613"), ("second", "m-1106")):
        row = {"call_key": name, "purpose": "ranking", "state": "answered", "served_model": served}
        insert(connection, "api_calls", {**call, **row})


def test_an_audit_stands_beside_what_was_recorded(connection: duckdb.DuckDBPyConnection) -> None:
    audited(connection)
    (row,) = ask(connection, "run_audit")
    assert (row["audit_seed"], row["subset"], row["lengths"], row["same_as"]) == (
        7,
        "harmless-base",
        [4, 4, 5],
        [0, 0, 2],
    )
    assert (row["recorded_permutation"], row["recorded_ranking"], row["recorded_model"]) == (
        [2, 0, 1],
        [0, 2, 1],
        "m-0613",
    )
    assert (row["repeated_permutation"], row["repeated_ranking"], row["repeated_model"]) == (
        [0, 1, 2],
        [2, 0, 1],
        "m-1106",
    )


@pytest.mark.parametrize(
    ("raw", "fingerprint"),
    [
        ('{"model": "m", "system_fingerprint": "fp_1"}', "fp_1"),
        ('{"model": "m", "system_fingerprint": null}', None),
        ('{"model": "m"}', None),
        ("[1", None),
        (None, None),
    ],
    ids=["given", "null", "none", "broken", "not kept"],
)
def test_an_audit_reads_fingerprints_from_the_answers_as_received(
    connection: duckdb.DuckDBPyConnection, raw: str | None, fingerprint: str | None
) -> None:
    audited(connection)
    connection.execute("update api_calls set raw = ?, answered_at = ? where call_key = 'first'", [raw, NOW])
    (row,) = ask(connection, "run_audit")
    assert (row["recorded_fingerprint"], row["recorded_at"]) == (fingerprint, NOW)
    assert (row["repeated_fingerprint"], row["repeated_at"]) == (None, None)
