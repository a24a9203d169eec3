"""Given a few responses and their rewards, each exhibit of what a run's model says answers with exactly these."""

import duckdb
import pytest

from tests.sql.evaluated_run import NOW, ask, insert, score
from tests.sql.registered_run import evaluate


def test_run_rewards_averages_per_subset_and_over_all_responses(connection: duckdb.DuckDBPyConnection) -> None:
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


def test_run_rewards_leaves_out_prompts_that_are_not_in_the_runs_sample(connection: duckdb.DuckDBPyConnection) -> None:
    evaluate(connection)
    score(connection, "r", {"before/elsewhere": 9.0})
    assert ask(connection, "run_rewards") == []


def test_run_scores_pairs_what_both_sides_have(connection: duckdb.DuckDBPyConnection) -> None:
    evaluate(connection)
    score(connection, "r", {"before/p0": 0.5, "after/p0": 2.0, "before/p1": 1.0})
    score(connection, "q", {"before/p1": 0.1, "after/p1": 0.2})
    assert ask(connection, "run_scores") == [
        {"reward_model": "q", "subset": "helpful-base", "prompt_id": "p1", "reward_before": 0.1, "reward_after": 0.2},
        {"reward_model": "r", "subset": "harmless-base", "prompt_id": "p0", "reward_before": 0.5, "reward_after": 2.0},
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


def test_run_cases_puts_the_largest_gain_first_and_the_unscored_last(connection: duckdb.DuckDBPyConnection) -> None:
    evaluate(connection)
    score(connection, "r", {"before/p1": 1.0, "after/p1": 1.5})
    score(connection, "other", {"before/p0": 1.0, "after/p0": 9.0})
    first, last = ask(connection, "run_cases", reward_model="r")
    assert tuple(first.values()) == ("helpful-base", "p1", "Human: p1", "before p1", "after p1", 1.0, 1.5, 0.5)
    assert (last["prompt_id"], last["gain"]) == ("p0", None)


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
