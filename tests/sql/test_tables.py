"""Given a few rows, each of the paper's tables answers with exactly these."""

import math
from collections.abc import Iterator, Mapping
from importlib.resources import files

import duckdb
import pytest

from cyclealign.records import SUBSETS
from cyclealign.report.exhibits import paper_rows
from tests.plain_ledger import plain_connection
from tests.sql.evaluated_run import RUN, ask, compare, evaluate, insert, score

TABLES = ("table_1", "table_1_scores", "table_2", "table_2_outcomes", "table_2_verdicts", "table_5")


TEST_SIZES = dict(zip(SUBSETS, (2312, 2354, 1137, 2749), strict=True))
PROMPTS_OF_SUBSET = """
    insert into prompts by name
    select $subset || '-' || place as prompt_id, $subset as subset, 'test' as split, [] as turns, '' as instruction
    from range($size) as places(place)
"""
ALL_ARE_EVALUATED = """
    insert into samples by name
    select
        's' as sample_digest, 'evaluation' as purpose, 'd' as dataset_digest, prompt_id,
        row_number() over () - 1 as position
    from prompts
"""
GENERATIONS_OF_SYSTEM = """
    insert into generations by name
    select
        $role || prompt_id as generation_id, $role as system_id, prompt_id, 'g' as generation_digest,
        '{}' as settings, '' as text, true as ended, now() as created_at
    from prompts
"""
REWARDS_OF_SYSTEM = """
    insert into reward_scores by name
    select $role || prompt_id as generation_id, 'rm' as reward_model, $reward as reward, now() as scored_at
    from prompts
    where subset = $subset
"""


@pytest.fixture
def empty() -> Iterator[duckdb.DuckDBPyConnection]:
    with plain_connection() as opened:
        yield opened


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with plain_connection() as opened:
        evaluate(opened)
        yield opened


@pytest.mark.parametrize("exhibit", TABLES)
def test_every_table_says_its_purpose_its_parameters_and_its_grain(exhibit: str) -> None:
    lines = files("sql").joinpath("exhibits", f"{exhibit}.sql").read_text().splitlines()
    header = [line for line in lines if line.startswith("--")]
    assert "(paper, Table" in header[0]
    assert header[1].startswith("-- Parameters: $run_name")
    assert any(line.startswith("-- One row per") for line in header)


@pytest.mark.parametrize("exhibit", [name for name in TABLES if name != "table_5"])
def test_without_a_run_every_run_is_shown(connection: duckdb.DuckDBPyConnection, exhibit: str) -> None:
    score(connection, "rm", {"after/p0": 1.0})
    compare(connection, "after/p0", "PRO/p0", "first")
    insert(connection, "run_samples", {"run_name": "another", "purpose": "evaluation", "sample_digest": "s"})
    for role in ("after", "PRO"):
        row = {"run_name": "another", "role": role, "system_id": f"{role}-system", "generation_digest": "g"}
        insert(connection, "run_systems", row)
    assert {row["run_name"] for row in ask(connection, exhibit, run_name=None)} == {RUN, "another"}
    assert {row["run_name"] for row in ask(connection, exhibit)} == {RUN}


def test_table_1_averages_over_responses_and_shows_how_many_there_are(connection: duckdb.DuckDBPyConnection) -> None:
    score(connection, "rm", {"after/p0": 0.0, "after/p1": math.log(3), "after/p2": math.log(3), "PRO/p1": -1000.0})
    score(connection, "rm", {"after/elsewhere": 50.0})
    rows = {(row["role"], row["subset"]): row for row in ask(connection, "table_1")}
    total, helpful = rows["after", "all"], rows["after", "helpful-base"]
    assert (total["responses"], total["prompts"], helpful["responses"]) == (3, 3, 2)
    assert total["sigmoid_mean_100"] == pytest.approx((50 + 75 + 75) / 3)
    assert total["mean_reward"] == pytest.approx(2 * math.log(3) / 3)
    assert rows["PRO", "all"]["sigmoid_mean_100"] == pytest.approx(0)
    assert (rows["PRO", "all"]["responses"], rows["PRO", "all"]["prompts"]) == (1, 3)


def test_table_1_total_is_the_micro_average_of_its_subsets(connection: duckdb.DuckDBPyConnection) -> None:
    score(connection, "rm", {"after/p0": 3.0, "after/p1": -1.0, "after/p2": 0.5})
    rows = {row["subset"]: row for row in ask(connection, "table_1")}
    parts = [rows[name] for name in ("harmless-base", "helpful-base")]
    weighted = sum(row["sigmoid_mean_100"] * row["responses"] for row in parts) / 3
    assert rows["all"]["sigmoid_mean_100"] == pytest.approx(weighted)


def respond_as_in(connection: duckdb.DuckDBPyConnection, role: str, means: Mapping[str, float]) -> None:
    """A system whose mean of 100 · sigmoid(reward) on each subset is the given one."""
    system = {"run_name": RUN, "role": role, "system_id": role, "generation_digest": "g"}
    insert(connection, "run_systems", system)
    connection.execute(GENERATIONS_OF_SYSTEM, {"role": role})
    for subset in TEST_SIZES:
        reward = math.log(means[subset] / (100 - means[subset]))
        connection.execute(REWARDS_OF_SYSTEM, {"role": role, "subset": subset, "reward": reward})


def test_table_1_has_the_papers_totals_from_its_subsets(empty: duckdb.DuckDBPyConnection) -> None:
    """Paper: the means of Table 1 on the 8,552 test prompts of Table 6."""
    for subset, size in TEST_SIZES.items():
        empty.execute(PROMPTS_OF_SUBSET, {"subset": subset, "size": size})
    empty.execute(ALL_ARE_EVALUATED)
    insert(empty, "run_samples", {"run_name": RUN, "purpose": "evaluation", "sample_digest": "s"})
    paper = paper_rows("table_1")
    assert paper is not None
    for role, part in paper.groupby("role"):
        respond_as_in(empty, str(role), dict(zip(part["subset"], part["sigmoid_mean_100"], strict=True)))
    shown = {(row["role"], row["subset"]): row for row in ask(empty, "table_1")}
    totals = paper[paper["subset"] == "all"]
    assert len(totals) == 11
    for role, total in zip(totals["role"], totals["sigmoid_mean_100"], strict=True):
        assert shown[role, "all"]["responses"] == 8552
        # to 0.01; the rest is the rounding of floats
        assert shown[role, "all"]["sigmoid_mean_100"] == pytest.approx(total, abs=0.0101), role


def test_table_1_scores_are_those_of_the_sample_in_its_order(connection: duckdb.DuckDBPyConnection) -> None:
    score(connection, "rm", {"after/p1": 1.0, "after/p0": 2.0, "after/elsewhere": 3.0})
    assert [(row["prompt_id"], row["reward"]) for row in ask(connection, "table_1_scores")] == [
        ("p0", 2.0),
        ("p1", 1.0),
    ]


def both(connection: duckdb.DuckDBPyConnection, prompt: str, ours_first: str, theirs_first: str) -> None:
    compare(connection, f"after/{prompt}", f"PRO/{prompt}", ours_first)
    compare(connection, f"PRO/{prompt}", f"after/{prompt}", theirs_first)


def test_table_2_by_hand(connection: duckdb.DuckDBPyConnection) -> None:
    both(connection, "p0", "first", "second")  # won in both orders
    both(connection, "p1", "first", "first")  # the first one both times: inconsistent
    both(connection, "p2", "first", "missing")
    rows = {row["subset"]: row for row in ask(connection, "table_2")}
    shares = [rows["all"][name] for name in ("prompts", "win", "tie", "lose", "missing", "inconsistent")]
    assert shares == pytest.approx([3, 100 / 3, 100 / 3, 0, 100 / 3, 100 / 3])
    helpful = [rows["helpful-base"][name] for name in ("prompts", "win", "tie", "lose", "missing", "inconsistent")]
    assert helpful == pytest.approx([2, 0, 50, 0, 50, 50])
    assert rows["harmless-base"]["win"] == 100


def test_table_2_is_seen_from_the_trained_model_else_from_the_first_label(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    compare(connection, "PRO/p0", "after/p0", "first")
    compare(connection, "before/p0", "PRO/p0", "second")
    rows = {(row["role"], row["against"]): row for row in ask(connection, "table_2") if row["subset"] == "all"}
    assert rows["after", "PRO"]["lose"] == pytest.approx(100 / 3)
    assert rows["PRO", "before"]["win"] == pytest.approx(100 / 3)
    assert len(rows) == 2


def test_table_2_counts_prompts_without_a_verdict_as_missing(connection: duckdb.DuckDBPyConnection) -> None:
    """Nobody asked about p1, and to p2 one of the two has no response."""
    connection.execute("delete from generations where generation_id = 'PRO/p2'")
    compare(connection, "after/p0", "PRO/p0", "first")
    (total,) = (row for row in ask(connection, "table_2") if row["subset"] == "all")
    assert [total[name] for name in ("prompts", "win", "missing")] == pytest.approx([3, 100 / 3, 200 / 3])
    outcomes = [(row["prompt_id"], row["outcome"], row["orders"]) for row in ask(connection, "table_2_outcomes")]
    assert outcomes == [("p0", "win", 1), ("p1", "missing", 0), ("p2", "missing", 0)]


def test_table_2_leaves_out_people_and_prompts_of_other_samples(connection: duckdb.DuckDBPyConnection) -> None:
    compare(connection, "after/p0", "PRO/p0", "first", judge="Ann", judge_kind="person")
    compare(connection, "after/elsewhere", "PRO/elsewhere", "first")
    assert ask(connection, "table_2") == []
    assert ask(connection, "table_2_outcomes") == []
    assert ask(connection, "table_2_verdicts") == []


def test_table_2_outcomes_name_each_prompt(connection: duckdb.DuckDBPyConnection) -> None:
    both(connection, "p1", "tie", "tie")
    both(connection, "p0", "second", "first")
    rows = ask(connection, "table_2_outcomes")
    assert [(row["prompt_id"], row["outcome"], row["inconsistent"]) for row in rows] == [
        ("p0", "lose", False),
        ("p1", "tie", False),
        ("p2", "missing", False),
    ]


def test_table_2_verdicts_know_order_lengths_and_who_answered(connection: duckdb.DuckDBPyConnection) -> None:
    both(connection, "p0", "first", "missing")
    compare(connection, "after/p1", "PRO/p1", "tie", call_key=None)  # identical responses: nobody was asked
    call = {"call_key": "after/p0 PRO/p0", "run_name": RUN, "purpose": "comparison", "model": "m", "origin": "o"}
    rest = {"slot": "[]", "request": "{}", "state": "answered", "asked_at": "2026-01-01", "served_model": "m-0613"}
    insert(connection, "api_calls", {**call, **rest})
    theirs, ours = ask(connection, "table_2_verdicts")
    assert (theirs["ours_first"], theirs["verdict"], theirs["first_length"], theirs["second_length"]) == (
        False,
        "missing",
        3,
        5,
    )
    assert (ours["ours_first"], ours["verdict"], ours["first_length"], ours["served_model"]) == (
        True,
        "first",
        5,
        "m-0613",
    )


def test_table_5_shows_the_largest_and_the_median_difference(connection: duckdb.DuckDBPyConnection) -> None:
    score(connection, "rm", {"after/p0": 1.0, "after/p1": 2.0, "after/p2": 5.0, "PRO/p0": 0.0, "PRO/p1": 2.5})
    score(connection, "rm", {"PRO/p2": 2.0})
    score(connection, "other", {"after/p1": 9.0, "PRO/p1": 0.0})
    rows = ask(connection, "table_5", reward_model="rm", role="after", against="PRO")
    assert [(row["chosen"], row["prompt_id"], row["difference"]) for row in rows] == [
        ("largest", "p2", 3.0),
        ("median", "p0", 1.0),
    ]
    assert rows[0]["response"] == "after"
    assert rows[0]["response_against"] == "PRO"
    only = ask(connection, "table_5", reward_model="other", role="after", against="PRO")
    assert [row["chosen"] for row in only] == ["largest"]
