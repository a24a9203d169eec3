"""Rows of a run whose trained model and two others responded to held-out prompts."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import duckdb

NOW = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)
RUN = "a-run"
PROMPTS = {"p0": "harmless-base", "p1": "helpful-base", "p2": "helpful-base"}
ROLES = ("after", "before", "PRO")


def insert(connection: duckdb.DuckDBPyConnection, table: str, *rows: Mapping[str, Any]) -> None:
    """Put rows into a table, each with columns of its own."""
    for row in rows:
        places = ", ".join("?" for _ in row)
        connection.execute(f"insert into {table} ({', '.join(row)}) values ({places})", list(row.values()))


def evaluate(connection: duckdb.DuckDBPyConnection, prompts: Mapping[str, str] = PROMPTS) -> None:
    """Every role has a response to every prompt of the sample, and to one that is not in it."""
    for position, (name, subset) in enumerate({**prompts, "elsewhere": "helpful-base"}.items()):
        row = {"prompt_id": name, "subset": subset, "split": "test", "turns": [], "instruction": f"Human: {name}"}
        insert(connection, "prompts", row)
        if name in prompts:
            sample = {"sample_digest": "s", "purpose": "evaluation", "dataset_digest": "d"}
            insert(connection, "samples", {**sample, "position": position, "prompt_id": name})
        for role in ROLES:
            generate(connection, role, name)
    insert(connection, "run_samples", {"run_name": RUN, "purpose": "evaluation", "sample_digest": "s"})
    for role in ROLES:
        row = {"run_name": RUN, "role": role, "system_id": f"{role}-system", "generation_digest": "g"}
        insert(connection, "run_systems", row)


def generate(connection: duckdb.DuckDBPyConnection, role: str, prompt: str) -> None:
    """A response of a role's system."""
    row = {"generation_id": f"{role}/{prompt}", "system_id": f"{role}-system", "prompt_id": prompt, "text": role}
    rest = {"generation_digest": "g", "settings": "{}", "ended": True, "created_at": NOW}
    insert(connection, "generations", {**row, **rest})


def score(connection: duckdb.DuckDBPyConnection, model: str, rewards: Mapping[str, float]) -> None:
    """Rewards of generations by name, for example `after/p0`."""
    for generation, reward in rewards.items():
        row = {"generation_id": generation, "reward_model": model, "reward": reward, "scored_at": NOW}
        insert(connection, "reward_scores", row)


def compare(connection: duckdb.DuckDBPyConnection, first: str, second: str, verdict: str, **columns: Any) -> None:
    """A judge's verdict on two generations in the order they were shown."""
    row = {
        "comparison_id": f"{columns.get('judge')} {first} {second}",
        "first_generation_id": first,
        "second_generation_id": second,
        "judge": "judge",
        "judge_kind": "model",
        "verdict": verdict,
        "call_key": f"{first} {second}",
        "compared_at": NOW,
    }
    insert(connection, "comparisons", {**row, **columns})


def ask(connection: duckdb.DuckDBPyConnection, exhibit: str, **parameters: Any) -> list[dict[str, Any]]:
    """The exhibit's rows, for the run unless another is named."""
    text = files("sql").joinpath("exhibits", f"{exhibit}.sql").read_text()
    answer = connection.execute(text, {"run_name": RUN, **parameters})
    names = [column[0] for column in answer.description or []]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
