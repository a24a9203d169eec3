"""Given a few finished runs, the exhibits of ablations answer with exactly these."""

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import duckdb
import pytest

from tests.plain_ledger import plain_connection
from tests.sql.evaluated_run import NOW, insert

EXHIBITS = ("table_4", "table_4_runs", "figure_4", "figure_5")
PROMPTS = {"p0": "harmless-base", "p1": "helpful-base"}


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Two prompts, two seeds with all demonstrations and one without any, under one reward model."""
    with plain_connection() as opened:
        for position, (name, subset) in enumerate(PROMPTS.items()):
            prompt = {"prompt_id": name, "subset": subset, "split": "test", "turns": [], "instruction": "i"}
            insert(opened, "prompts", prompt)
            sample = {"sample_digest": "s", "purpose": "evaluation", "dataset_digest": "d"}
            insert(opened, "samples", {**sample, "position": position, "prompt_id": name})
        add_run(opened, "full-0", {"icl": "full"}, seed=0, after={"p0": 1.0, "p1": 3.0})
        add_run(opened, "full-1", {"icl": "full"}, seed=1, after={"p0": 3.0, "p1": 5.0})
        add_run(opened, "off-0", {"icl": "off"}, seed=0, after={"p0": 0.0, "p1": 0.0})
        yield opened


def add_run(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    method: Mapping[str, Any],
    seed: int,
    after: Mapping[str, float],
    **columns: Any,
) -> None:
    """A finished run of four steps whose rewards before were all 0."""
    chosen = {"objective": "pro", "icl": "full", "rewrite": "head", "rounds": 5, "candidates": 3, **method}
    row = {
        "run_name": name,
        "profile": "laptop",
        "seed": seed,
        "settings": json.dumps({"seed": seed, "method": chosen}),
        "settings_digest": name,
        "operational_settings": "{}",
        "steps": 4,
        "state": "complete",
        "package_versions": "{}",
        "machine": "{}",
        "created_at": NOW,
        "updated_at": NOW,
    }
    insert(connection, "runs", {**row, **columns})
    insert(connection, "run_samples", {"run_name": name, "purpose": "evaluation", "sample_digest": "s"})
    for role, rewards in (("before", dict.fromkeys(after, 0.0)), ("after", after)):
        system = {"role": role, "system_id": f"{name}-{role}", "generation_digest": "g"}
        insert(connection, "run_systems", {"run_name": name, **system})
        for prompt, reward in rewards.items():
            add_scored(connection, f"{name}-{role}", prompt, reward)


def add_scored(connection: duckdb.DuckDBPyConnection, system: str, prompt: str, reward: float) -> None:
    """A system's response to a prompt, with its reward."""
    key = f"{system}/{prompt}"
    row = {"generation_id": key, "system_id": system, "prompt_id": prompt, "text": "t", "created_at": NOW}
    insert(connection, "generations", {**row, "generation_digest": "g", "settings": "{}", "ended": True})
    score = {"generation_id": key, "reward_model": "r", "reward": reward, "scored_at": NOW}
    insert(connection, "reward_scores", score)


def add_round(
    connection: duckdb.DuckDBPyConnection, run: str, step: int, black: list[int], rewards: list[float]
) -> None:
    """A ranked round of three candidates, whose rewards are given by id."""
    key = {"run_name": run, "step": step, "round": 1}
    insert(connection, "rounds", {**key, "wave": 0, "prompt_id": "p", "state": "trained", "sampled_at": NOW})
    for slot, reward in enumerate(rewards):
        candidate = {**key, "slot": slot, "kind": "candidate", "text": "t", "black_box_rank": black.index(slot)}
        insert(connection, "responses", candidate)
        insert(connection, "response_rewards", {**key, "slot": slot, "reward_model": "r", "reward": reward})


def ask(connection: duckdb.DuckDBPyConnection, exhibit: str, **parameters: Any) -> list[dict[str, Any]]:
    """The exhibit's rows under the one reward model."""
    text = files("sql").joinpath("exhibits", f"{exhibit}.sql").read_text()
    answer = connection.execute(text, {"reward_model": "r", **parameters})
    names = [column[0] for column in answer.description or []]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


@pytest.mark.parametrize("exhibit", EXHIBITS)
def test_every_exhibit_says_its_purpose_its_parameters_and_its_grain(exhibit: str) -> None:
    lines = files("sql").joinpath("exhibits", f"{exhibit}.sql").read_text().splitlines()
    header = [line for line in lines if line.startswith("--")]
    assert "(paper, " in header[0]
    assert header[1].startswith("-- Parameters: $reward_model")
    assert any(line.startswith("-- One row per") for line in header)


def test_a_run_under_a_second_name_is_no_second_seed(connection: duckdb.DuckDBPyConnection) -> None:
    later = {"settings_digest": "full-1", "created_at": "2026-12-01"}
    add_run(connection, "full-1-again", {"icl": "full"}, seed=1, after={"p0": 3.0, "p1": 5.0}, **later)
    for run in ("full-0", "full-1", "full-1-again"):
        add_round(connection, run, 0, [0, 1, 2], [3.0, 2.0, 1.0])
    connection.execute("insert into counted_pairs select * from ranked_pairs")
    for exhibit, parameters in (("table_4", {}), ("figure_5", {}), ("figure_4", {"bins": 1})):
        rows = [row for row in ask(connection, exhibit, **parameters) if row["icl"] == "full"]
        assert {row["seeds"] for row in rows} == {2}
    assert {row["run_name"] for row in ask(connection, "table_4_runs")} == {"full-0", "full-1", "off-0"}


@pytest.mark.parametrize("change", ["other prompts", "other generation settings"])
def test_runs_that_were_evaluated_otherwise_are_not_averaged(
    connection: duckdb.DuckDBPyConnection, change: str
) -> None:
    if change == "other prompts":
        connection.execute(
            "insert into samples select 't', purpose, dataset_digest, 0, prompt_id from samples where prompt_id = 'p0'"
        )
        connection.execute("update run_samples set sample_digest = 't' where run_name = 'full-1'")
    else:
        connection.execute("update run_systems set generation_digest = 'h' where run_name = 'full-1'")
        connection.execute("update generations set generation_digest = 'h' where system_id like 'full-1%'")
    rows = [row for row in ask(connection, "table_4") if (row["icl"], row["subset"]) == ("full", "all")]
    assert [row["seeds"] for row in rows] == [1, 1]
    assert {row["mean_reward"] for row in rows} == {2.0, 3.0 if change == "other prompts" else 4.0}


def test_table_4_averages_over_seeds_each_counting_once(connection: duckdb.DuckDBPyConnection) -> None:
    rows = {(row["icl"], row["subset"]): row for row in ask(connection, "table_4")}
    assert {key: (row["seeds"], row["responses"], row["mean_reward"]) for key, row in rows.items()} == {
        ("full", "all"): (2, 4, 3.0),
        ("full", "harmless-base"): (2, 2, 2.0),
        ("full", "helpful-base"): (2, 2, 4.0),
        ("off", "all"): (1, 2, 0.0),
        ("off", "harmless-base"): (1, 1, 0.0),
        ("off", "helpful-base"): (1, 1, 0.0),
    }
    assert rows["full", "all"]["spread_of_reward"] == pytest.approx(2**0.5)
    assert rows["full", "all"]["mean_gain"] == 3.0
    assert rows["off", "all"]["spread_of_reward"] is None
    assert rows["off", "all"]["sigmoid_mean_100"] == 50.0


def test_runs_that_differ_in_something_else_are_not_averaged_together(connection: duckdb.DuckDBPyConnection) -> None:
    add_run(connection, "four", {"icl": "full", "candidates": 4}, seed=2, after={"p0": 9.0, "p1": 9.0})
    found = [row for row in ask(connection, "table_4") if (row["icl"], row["subset"]) == ("full", "all")]
    assert sorted((row["seeds"], row["mean_reward"]) for row in found) == [(1, 9.0), (2, 3.0)]
    assert len({row["other_settings"] for row in found}) == 2


@pytest.mark.parametrize(
    "columns", [{"state": "paused"}, {"kind": "refold"}, {"kind": "baseline"}], ids=["unfinished", "refold", "baseline"]
)
def test_only_finished_runs_of_the_cycle_are_ablations(
    connection: duckdb.DuckDBPyConnection, columns: dict[str, str]
) -> None:
    before = ask(connection, "table_4_runs")
    add_run(connection, "other", {"icl": "full"}, seed=5, after={"p0": 9.0, "p1": 9.0}, **columns)
    assert ask(connection, "table_4_runs") == before


def test_the_values_behind_table_4_are_one_per_seed(connection: duckdb.DuckDBPyConnection) -> None:
    rows = [row for row in ask(connection, "table_4_runs") if row["subset"] == "all"]
    assert [(row["icl"], row["seed"], row["run_name"], row["reward_after"]) for row in rows] == [
        ("full", 0, "full-0", 2.0),
        ("full", 1, "full-1", 4.0),
        ("off", 0, "off-0", 0.0),
    ]


def test_figure_4_counts_pairs_in_the_order_of_the_rewards_and_leaves_ties_out(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    add_round(connection, "full-0", step=0, black=[0, 1, 2], rewards=[3.0, 2.0, 1.0])
    add_round(connection, "full-0", step=3, black=[0, 1, 2], rewards=[1.0, 2.0, 2.0])
    add_round(connection, "full-1", step=1, black=[2, 1, 0], rewards=[3.0, 2.0, 1.0])
    connection.execute("insert into counted_pairs select * from ranked_pairs")
    columns = ("icl", "first_step", "last_step", "seeds", "pairs", "accuracy", "kendall_tau")
    assert [tuple(row[name] for name in columns) for row in ask(connection, "figure_4", bins=2)] == [
        ("full", 0, 1, 2, 6, 0.5, 0.0),
        ("full", 3, 3, 1, 2, 0.0, -1.0),
    ]


def test_figure_5_follows_the_largest_number_of_rounds(connection: duckdb.DuckDBPyConnection) -> None:
    add_run(connection, "one", {"rounds": 1}, seed=0, after={"p0": 1.0, "p1": 1.0})
    for run in ("one", "full-0", "full-1"):
        add_round(connection, run, step=0, black=[0, 1, 2], rewards=[3.0, 2.0, 1.0])
    rows = [row for row in ask(connection, "figure_5") if row["subset"] == "all"]
    assert [(row["rounds"], row["seeds"], row["rounds_per_step"], row["mean_reward"]) for row in rows] == [
        (1, 1, 1.0, 1.0),
        (5, 2, 1.0, 3.0),
    ]
