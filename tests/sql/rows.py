"""Rows for exhibits: a registered run of four steps, and what three systems said to held-out prompts."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from cyclealign.report.catalogue import entry_of
from storage import queries

NOW = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)
RUN = "a-run"
PROMPTS = {"p0": "harmless-base", "p1": "helpful-base", "p2": "helpful-base"}
ROLES = ("after", "before", "PRO")
ROUND = {"run_name": RUN, "wave": 0, "prompt_id": "p0", "state": "trained", "sampled_at": NOW}
SETTINGS = {"method": {"objective": "pro", "icl": "full", "rewrite": "head", "rounds": 5, "candidates": 3}}


def insert(connection: duckdb.DuckDBPyConnection, table: str, *rows: Mapping[str, Any]) -> None:
    """Put rows into a table, each with columns of its own."""
    for row in rows:
        places = ", ".join("?" for _ in row)
        connection.execute(f"insert into {table} ({', '.join(row)}) values ({places})", list(row.values()))


def answer_call(connection: duckdb.DuckDBPyConnection, call_key: str, purpose: str = "ranking", **reply: Any) -> None:
    """A call of the run that was answered."""
    insert(connection, "attempts", {"call_key": call_key, "run_name": RUN, "purpose": purpose, "model": "m"})
    outcome = {"call_key": call_key, "run_name": RUN, "state": "answered", "ended_at": NOW}
    parts = ("raw", "content", "refusal", "finish_reason", "model", "prompt_tokens", "completion_tokens")
    insert(connection, "outcomes", {**outcome, "reply": {name: reply.get(name) for name in parts}})


def register(connection: duckdb.DuckDBPyConnection, name: str = RUN, **columns: Any) -> None:
    """A finished run of four steps and ninety seconds."""
    row = {"run_name": name, "profile": "laptop", "seed": 3, "settings": json.dumps(SETTINGS), "settings_digest": name}
    kept = {"operational_settings": "{}", "steps": 4, "state": "complete", "kind": "cycle"}
    kept |= {"package_versions": "{}", "machine": "{}"}
    times = {"created_at": NOW, "updated_at": NOW, "finished_at": NOW + timedelta(seconds=90)}
    insert(connection, "runs", {**row, **kept, **times, **columns})


def evaluate(connection: duckdb.DuckDBPyConnection, run: str = RUN) -> None:
    """Every role has a response to every prompt of the sample, and to one that is not in it."""
    for position, (name, subset) in enumerate({**PROMPTS, "elsewhere": "helpful-base"}.items()):
        row = {"prompt_id": name, "subset": subset, "split": "test", "turns": [], "instruction": f"Human: {name}"}
        insert(connection, "prompts", row)
        if name in PROMPTS:
            sample = {"sample_digest": "s", "purpose": "evaluation", "dataset_digest": "d"}
            insert(connection, "samples", {**sample, "position": position, "prompt_id": name})
        for role in ROLES:
            generate(connection, role, name)
    use(connection, run, ROLES)


def use(connection: duckdb.DuckDBPyConnection, run: str, roles: tuple[str, ...]) -> None:
    """The run's evaluation is of the sample, and these systems are in it."""
    insert(connection, "run_samples", {"run_name": run, "purpose": "evaluation", "sample_digest": "s"})
    for role in roles:
        row = {"run_name": run, "role": role, "system_id": f"{role}-system", "generation_digest": "g"}
        insert(connection, "run_systems", row)


def generate(connection: duckdb.DuckDBPyConnection, role: str, prompt: str, system: str = "") -> None:
    """A response of a role's system; those to p0 are short and end."""
    short = prompt == "p0"
    row = {"generation_id": f"{role}/{prompt}", "system_id": system or f"{role}-system", "prompt_id": prompt}
    looks = {"text": role, "tokens": 10 if short else 30, "ended": short, "repeated_4grams": 0.0 if short else 0.5}
    rest = {"generation_digest": "g", "settings": "{}", "created_at": NOW, "seconds": 0.5}
    insert(connection, "generations", {**row, **looks, **rest})


def score(connection: duckdb.DuckDBPyConnection, model: str, rewards: Mapping[str, float]) -> None:
    """Rewards of generations by name, for example `after/p0`."""
    for generation, reward in rewards.items():
        row = {"generation_id": generation, "reward_model": model, "reward": reward, "scored_at": NOW}
        insert(connection, "reward_scores", row)


def compare(connection: duckdb.DuckDBPyConnection, first: str, second: str, verdict: str, **columns: Any) -> None:
    """A judge's verdict on two generations in the order they were shown."""
    key = {"comparison_id": f"{columns.get('judge')} {first} {second}", "call_key": f"{first} {second}"}
    row = {"first_generation_id": first, "second_generation_id": second, "judge": "judge", "judge_kind": "model"}
    insert(connection, "comparisons", {**key, **row, "verdict": verdict, "compared_at": NOW, **columns})


def say(connection: duckdb.DuckDBPyConnection, who: str, first: str, second: str, verdict: str) -> None:
    """A person's verdict on two generations in the order they were shown."""
    compare(connection, first, second, verdict, judge=who, judge_kind="person", call_key=None)


def rank(
    connection: duckdb.DuckDBPyConnection,
    step: int,
    number: int,
    black: list[int],
    white: list[int],
    *,
    rewards: tuple[float, ...] = (),
    run: str = RUN,
) -> None:
    """A ranked round of three candidates; its agreement length is given by the two rankings, rewards are by id."""
    key = {"run_name": run, "step": step, "round": number}
    length = 3 if black == white else 1 if black == white[::-1] else 2
    insert(connection, "rounds", {**ROUND, **key, "agreement_length": length})
    for slot in range(3):
        ranks = {"black_box_rank": black.index(slot), "white_box_rank": white.index(slot)}
        insert(connection, "responses", {**key, "slot": slot, "kind": "candidate", "text": "t", **ranks})
    insert(connection, "responses", {**key, "slot": -1, "kind": "rewrite", "text": "t"})
    for ranker, ranking in (("black_box", black), ("white_box", white)):
        insert(connection, "rankings", {**key, "ranker": ranker, "ranking": ranking})
    pairs = [(one, other) for one in range(3) for other in range(3) if rewards and rewards[one] > rewards[other]]
    if pairs:
        right = {
            f"{ranker}_right": sum(ranking.index(one) < ranking.index(other) for one, other in pairs)
            for ranker, ranking in (("black_box", black), ("white_box", white))
        }
        insert(connection, "counted_pairs", {**key, "reward_model": "r", "pairs": len(pairs), **right})


def ask(connection: duckdb.DuckDBPyConnection, exhibit: str, **parameters: Any) -> list[dict[str, Any]]:
    """The exhibit's rows as its SQL file and its entry in the catalogue give them."""
    entry = entry_of(exhibit)
    answer = connection.execute(queries.load(f"exhibits/{entry.sql or exhibit}"), parameters)
    names = [column[0] for column in answer.description or []]
    rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
    return [{name: row[name] for name in entry.columns or names} for row in rows]


def values(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    """The rows' values, of these columns or of all."""
    return [tuple(row[name] for name in names or row) for row in rows]
