"""Rows of one registered run of four steps, and of what its model said before and after training."""

import json
from datetime import timedelta

import duckdb

from tests.plain_ledger import plain_connection
from tests.sql.evaluated_run import NOW, RUN, insert

ROUND = {"run_name": RUN, "wave": 0, "prompt_id": "p0", "state": "trained", "sampled_at": NOW}
GENERATION = {"generation_digest": "g", "settings": "{}", "created_at": NOW, "seconds": 0.5}


def registered_run() -> duckdb.DuckDBPyConnection:
    """A ledger in memory that knows the run and nothing else."""
    connection = plain_connection()
    insert(
        connection,
        "runs",
        {
            "run_name": RUN,
            "profile": "laptop",
            "seed": 3,
            "settings": json.dumps({"method": {"rounds": 5}}),
            "settings_digest": "d",
            "operational_settings": "{}",
            "steps": 4,
            "state": "complete",
            "package_versions": "{}",
            "machine": "{}",
            "created_at": NOW,
            "updated_at": NOW,
            "finished_at": NOW + timedelta(seconds=90),
        },
    )
    return connection


def evaluate(connection: duckdb.DuckDBPyConnection) -> None:
    """Two prompts of the run's evaluation sample, one of nobody's, each with a response before and after."""
    for position, (name, subset) in enumerate((("p0", "harmless-base"), ("p1", "helpful-base"))):
        sample = {"sample_digest": "s", "purpose": "evaluation", "dataset_digest": "d"}
        insert(connection, "samples", {**sample, "position": position, "prompt_id": name})
        add_prompt(connection, name, subset)
    add_prompt(connection, "elsewhere", "helpful-base")
    insert(connection, "run_samples", {"run_name": RUN, "purpose": "evaluation", "sample_digest": "s"})
    for role in ("before", "after"):
        row = {"run_name": RUN, "role": role, "system_id": f"{role}-system", "generation_digest": "g"}
        insert(connection, "run_systems", row)
        for prompt in ("p0", "p1", "elsewhere"):
            add_generation(connection, role, prompt)


def add_prompt(connection: duckdb.DuckDBPyConnection, name: str, subset: str) -> None:
    """A test prompt."""
    row = {"prompt_id": name, "subset": subset, "split": "test", "turns": [], "instruction": f"Human: {name}"}
    insert(connection, "prompts", row)


def add_generation(connection: duckdb.DuckDBPyConnection, role: str, prompt: str) -> None:
    """A response of a role's system; responses to p1 are longer and do not end."""
    long = prompt == "p1"
    row = {
        "generation_id": f"{role}/{prompt}",
        "system_id": f"{role}-system",
        "prompt_id": prompt,
        "text": f"{role} {prompt}",
        "tokens": 30 if long else 10,
        "ended": not long,
        "repeated_4grams": 0.5 if long else 0.0,
    }
    insert(connection, "generations", {**row, **GENERATION})
