"""Given a few rows, each exhibit of a run answers with exactly these."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import pytest

NOW = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)
RUN = "a-run"
ROUND = {"run_name": RUN, "wave": 0, "prompt_id": "p0", "state": "trained", "sampled_at": NOW}
CANDIDATE = {"run_name": RUN, "kind": "candidate", "text": "t"}
CALL = {"run_name": RUN, "purpose": "ranking", "model": "m", "origin": "o", "slot": "[]", "request": "{}"}
ATTEMPT = {
    "run_name": RUN,
    "process_host": "h",
    "process_id": 1,
    "process_started_at": 0.0,
    "started_at": NOW,
}
GENERATION = {"generation_digest": "g", "settings": "{}", "created_at": NOW, "seconds": 0.5}
EXHIBITS = sorted(
    path.name.removesuffix(".sql")
    for path in files("sql").joinpath("exhibits").iterdir()
    if path.name.startswith("run_")
)


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty ledger in memory, with one registered run of four steps."""
    with duckdb.connect() as opened:
        for migration in sorted(Path(str(files("sql").joinpath("migrations"))).glob("*.sql")):
            opened.execute(migration.read_text())
        insert(
            opened,
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
        yield opened


def insert(connection: duckdb.DuckDBPyConnection, table: str, *rows: Mapping[str, Any]) -> None:
    """Put rows into a table, each with columns of its own."""
    for row in rows:
        places = ", ".join("?" for _ in row)
        statement = f"insert into {table} ({', '.join(row)}) values ({places})"
        connection.execute(statement, list(row.values()))


def ask(connection: duckdb.DuckDBPyConnection, exhibit: str, **parameters: Any) -> list[dict[str, Any]]:
    """The exhibit's rows for the run."""
    text = files("sql").joinpath("exhibits", f"{exhibit}.sql").read_text()
    answer = connection.execute(text, {"run_name": RUN, **parameters})
    names = [column[0] for column in answer.description or []]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


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


def score(connection: duckdb.DuckDBPyConnection, model: str, rewards: Mapping[str, float]) -> None:
    """Rewards of generations by name, for example `before/p0`."""
    for generation, reward in rewards.items():
        row = {"generation_id": generation, "reward_model": model, "reward": reward, "scored_at": NOW}
        insert(connection, "reward_scores", row)


def rank(
    connection: duckdb.DuckDBPyConnection, step: int, number: int, black: list[int], white: list[int]
) -> None:
    """A ranked round; its agreement length is given by the two rankings of three candidates."""
    key = {"step": step, "round": number}
    lengths = {True: 3, False: 1 if black == white[::-1] else 2}
    insert(connection, "rounds", {**ROUND, **key, "agreement_length": lengths[black == white]})
    for slot in range(3):
        ranks = {"black_box_rank": black.index(slot), "white_box_rank": white.index(slot)}
        insert(connection, "responses", {**CANDIDATE, **key, "slot": slot, **ranks})
    insert(connection, "responses", {**CANDIDATE, **key, "slot": -1, "kind": "rewrite"})
    for ranker, ranking in (("black_box", black), ("white_box", white)):
        insert(connection, "rankings", {"run_name": RUN, **key, "ranker": ranker, "ranking": ranking})


@pytest.mark.parametrize("exhibit", EXHIBITS)
def test_every_exhibit_says_its_purpose_its_parameters_and_its_grain(exhibit: str) -> None:
    lines = files("sql").joinpath("exhibits", f"{exhibit}.sql").read_text().splitlines()
    header = [line for line in lines if line.startswith("--")]
    assert header[1].startswith("-- Parameters: $run_name")
    assert any(line.startswith("-- One row per") for line in header)


@pytest.mark.parametrize(
    "exhibit", [name for name in EXHIBITS if name not in {"run_settings", "run_timings"}]
)
def test_a_run_that_has_done_nothing_has_no_rows(connection: duckdb.DuckDBPyConnection, exhibit: str) -> None:
    text = files("sql").joinpath("exhibits", f"{exhibit}.sql").read_text()
    given = {"bins": 2, "reward_model": "r"}
    assert ask(connection, exhibit, **{key: value for key, value in given.items() if f"${key}" in text}) == []


def test_run_settings_tells_what_the_run_is_and_how_far_it_got(connection: duckdb.DuckDBPyConnection) -> None:
    insert(connection, "rounds", {**ROUND, "step": 0, "round": 1}, {**ROUND, "step": 0, "round": 2})
    (row,) = ask(connection, "run_settings")
    assert (row["profile"], row["seed"], row["steps"], row["steps_done"], row["rounds"]) == (
        "laptop",
        3,
        4,
        1,
        2,
    )
    assert row["elapsed_seconds"] == 90
    assert json.loads(row["settings"]) == {"method": {"rounds": 5}}


def test_run_rewards_averages_per_subset_and_over_all_responses(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    evaluate(connection)
    score(connection, "r", {"before/p0": 0.0, "after/p0": 2.0, "before/p1": -1000.0, "after/p1": 1000.0})
    rows = {(row["subset"], row["role"]): row for row in ask(connection, "run_rewards")}
    assert {key: (row["responses"], row["mean_reward"]) for key, row in rows.items()} == {
        ("all", "before"): (2, -500.0),
        ("all", "after"): (2, 501.0),
        ("harmless-base", "before"): (1, 0.0),
        ("harmless-base", "after"): (1, 2.0),
        ("helpful-base", "before"): (1, -1000.0),
        ("helpful-base", "after"): (1, 1000.0),
    }
    assert rows["all", "before"]["sigmoid_mean_100"] == pytest.approx(25.0)
    assert rows["all", "after"]["sigmoid_mean_100"] == pytest.approx((88.0797 + 100) / 2)


def test_run_rewards_leaves_out_prompts_that_are_not_in_the_runs_sample(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    evaluate(connection)
    score(connection, "r", {"before/elsewhere": 9.0})
    assert ask(connection, "run_rewards") == []


def test_run_scores_pairs_what_both_sides_have(connection: duckdb.DuckDBPyConnection) -> None:
    evaluate(connection)
    score(connection, "r", {"before/p0": 0.5, "after/p0": 2.0, "before/p1": 1.0})
    score(connection, "q", {"before/p1": 0.1, "after/p1": 0.2})
    assert ask(connection, "run_scores") == [
        {
            "reward_model": "q",
            "subset": "helpful-base",
            "prompt_id": "p1",
            "reward_before": 0.1,
            "reward_after": 0.2,
        },
        {
            "reward_model": "r",
            "subset": "harmless-base",
            "prompt_id": "p0",
            "reward_before": 0.5,
            "reward_after": 2.0,
        },
    ]


def test_run_text_describes_responses_per_subset_and_over_all(connection: duckdb.DuckDBPyConnection) -> None:
    evaluate(connection)
    rows = [tuple(row.values()) for row in ask(connection, "run_text")]
    assert rows == [
        ("all", "after", 2, 20.0, 0.5, 0.25),
        ("all", "before", 2, 20.0, 0.5, 0.25),
        ("harmless-base", "after", 1, 10.0, 1.0, 0.0),
        ("harmless-base", "before", 1, 10.0, 1.0, 0.0),
        ("helpful-base", "after", 1, 30.0, 0.0, 0.5),
        ("helpful-base", "before", 1, 30.0, 0.0, 0.5),
    ]


def test_run_cases_puts_the_largest_gain_first_and_the_unscored_last(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    evaluate(connection)
    score(connection, "r", {"before/p1": 1.0, "after/p1": 1.5})
    score(connection, "other", {"before/p0": 1.0, "after/p0": 9.0})
    first, last = ask(connection, "run_cases", reward_model="r")
    assert tuple(first.values()) == (
        "helpful-base",
        "p1",
        "Human: p1",
        "before p1",
        "after p1",
        1.0,
        1.5,
        0.5,
    )
    assert (last["prompt_id"], last["gain"]) == ("p0", None)


def test_run_agreement_bins_steps_and_tells_first_rounds_apart(connection: duckdb.DuckDBPyConnection) -> None:
    rank(connection, 0, 1, [0, 1, 2], [2, 1, 0])
    rank(connection, 0, 2, [0, 1, 2], [0, 1, 2])
    rank(connection, 1, 1, [0, 1, 2], [0, 2, 1])
    rank(connection, 2, 1, [2, 0, 1], [2, 0, 1])
    insert(
        connection,
        "rounds",
        {**ROUND, "step": 3, "round": 1, "state": "unranked", "unranked_reason": "refusal"},
    )
    early, late = (tuple(row.values()) for row in ask(connection, "run_agreement", bins=2))
    assert early == (0, 1, 3, 1.5, pytest.approx(2 / 3), pytest.approx(0.5), pytest.approx(1 / 3), 0.0)
    assert late == (2, 2, 1, 1.0, 1.0, 1.0, 1.0, 1.0)


def test_more_bins_than_steps_gives_a_bin_per_step(connection: duckdb.DuckDBPyConnection) -> None:
    for step in range(4):
        rank(connection, step, 1, [0, 1, 2], [0, 1, 2])
    assert [row["first_step"] for row in ask(connection, "run_agreement", bins=100)] == [0, 1, 2, 3]


def test_run_ranking_agreement_is_kendalls_tau(connection: duckdb.DuckDBPyConnection) -> None:
    rank(connection, 0, 1, [0, 1, 2], [2, 1, 0])
    rank(connection, 0, 2, [0, 1, 2], [0, 2, 1])
    rank(connection, 3, 1, [1, 0, 2], [1, 0, 2])
    early, late = (tuple(row.values()) for row in ask(connection, "run_ranking_agreement", bins=2))
    assert early == (0, 0, 2, pytest.approx(-1 / 3), -1.0, pytest.approx(1 / 3))
    assert late == (3, 3, 1, 1.0, 1.0, 1.0)


def test_run_ranking_accuracy_counts_pairs_of_different_rewards(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    rank(connection, 0, 1, [0, 1, 2], [2, 1, 0])
    for slot, reward in enumerate((0.9, 0.2, 0.2)):
        key = {"run_name": RUN, "step": 0, "round": 1, "slot": slot, "reward_model": "truth"}
        insert(connection, "response_rewards", {**key, "reward": reward})
    (row,) = ask(connection, "run_ranking_accuracy", bins=2)
    assert tuple(row.values()) == ("truth", 0, 0, 2, 1.0, 0.0)


def test_run_losses_averages_over_the_prompts_of_an_optimizer_step(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    shared = {"round": 1, "optimizer_step": 0, "gradient_norm": 2.0, "learning_rate": 0.1}
    for step, loss in ((0, 5.0), (1, 9.0)):
        losses = {"loss": loss, "rank_loss": 1.0, "sft_loss": loss / 4}
        insert(connection, "rounds", {**ROUND, **shared, "step": step, **losses})
    insert(connection, "rounds", {**ROUND, "step": 2, "round": 1, "state": "unranked"})
    assert [tuple(row.values()) for row in ask(connection, "run_losses")] == [
        (0, 0, 2, 7.0, 1.0, 1.75, 2.0, 0.1)
    ]


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


def test_run_unranked_counts_reasons_against_all_rounds(connection: duckdb.DuckDBPyConnection) -> None:
    for step, reason in enumerate(("refusal", "malformed", "malformed")):
        row = {**ROUND, "step": step, "round": 1, "state": "unranked", "unranked_reason": reason}
        insert(connection, "rounds", row)
    insert(connection, "rounds", {**ROUND, "step": 3, "round": 1})
    assert [tuple(row.values()) for row in ask(connection, "run_unranked")] == [
        ("malformed", 2, 0.5),
        ("refusal", 1, 0.25),
    ]


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


def test_run_timings_sums_phases(connection: duckdb.DuckDBPyConnection) -> None:
    evaluate(connection)
    seconds = {
        "sampling_seconds": 1.0,
        "scoring_seconds": 0.5,
        "waiting_seconds": 2.5,
        "training_seconds": 1.0,
    }
    insert(
        connection,
        "rounds",
        {**ROUND, **seconds, "step": 0, "round": 1},
        {**ROUND, **seconds, "step": 1, "round": 1},
    )
    assert [tuple(row.values()) for row in ask(connection, "run_timings")] == [
        ("sampling", 2.0, pytest.approx(2 / 12)),
        ("scoring", 1.0, pytest.approx(1 / 12)),
        ("waiting", 5.0, pytest.approx(5 / 12)),
        ("training", 2.0, pytest.approx(2 / 12)),
        ("evaluation", 2.0, pytest.approx(2 / 12)),
    ]


def test_preference_models_of_a_run_are_those_that_scored_it_and_those_fitted_with_them(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    evaluate(connection)
    score(connection, "evaluation", {"before/p0": 0.5})
    for model in ("evaluation", "judge", "of another run"):
        for subset in ("all", "helpful-base"):
            row = {"reward_model": model, "subset": subset, "pairs": 120, "accuracy": 0.6, "measured_at": NOW}
            insert(connection, "preference_accuracies", row)
    for model in ("evaluation", "of another run"):
        row = {"reward_model": model, "other_model": "judge", "pairs": 480, "measured_at": NOW}
        insert(connection, "preference_correlations", {**row, "correlation": 0.87})
    assert [tuple(row.values()) for row in ask(connection, "run_preference_accuracies")] == [
        (model, subset, 120, 0.6) for model in ("evaluation", "judge") for subset in ("helpful-base", "all")
    ]
    (row,) = ask(connection, "run_preference_correlations")
    assert tuple(row.values()) == ("evaluation", "judge", 480, 0.87)


def test_run_demonstrations_counts_how_often_each_was_shown(connection: duckdb.DuckDBPyConnection) -> None:
    text = {"run_name": RUN, "instruction": "i", "responses": ["a", "b"], "ranking": [1, 0]}
    insert(connection, "demonstrations", {**text, "demonstration": 0, "kind": "static"})
    insert(
        connection, "demonstrations", {**text, "demonstration": 1, "kind": "dynamic", "step": 0, "round": 2}
    )
    for number in (1, 2):
        shown = {"run_name": RUN, "step": 0, "round": number, "position": 0, "demonstration": 0}
        insert(connection, "round_demonstrations", shown)
    assert [tuple(row.values()) for row in ask(connection, "run_demonstrations")] == [
        (0, "static", None, None, "i", ["a", "b"], [1, 0], 2),
        (1, "dynamic", 0, 2, "i", ["a", "b"], [1, 0], 0),
    ]
