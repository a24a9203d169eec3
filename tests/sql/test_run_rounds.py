"""Given a few rounds, each exhibit of a run's rankings and training steps answers with exactly these."""

import duckdb
import pytest

from tests.sql.evaluated_run import RUN, ask, insert
from tests.sql.registered_run import ROUND

CANDIDATE = {"run_name": RUN, "kind": "candidate", "text": "t"}


def rank(connection: duckdb.DuckDBPyConnection, step: int, number: int, black: list[int], white: list[int]) -> None:
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


def test_run_agreement_bins_steps_and_tells_first_rounds_apart(connection: duckdb.DuckDBPyConnection) -> None:
    rank(connection, 0, 1, [0, 1, 2], [2, 1, 0])
    rank(connection, 0, 2, [0, 1, 2], [0, 1, 2])
    rank(connection, 1, 1, [0, 1, 2], [0, 2, 1])
    rank(connection, 2, 1, [2, 0, 1], [2, 0, 1])
    insert(connection, "rounds", {**ROUND, "step": 3, "round": 1, "state": "unranked", "unranked_reason": "refusal"})
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


def test_run_ranking_accuracy_counts_pairs_of_different_rewards(connection: duckdb.DuckDBPyConnection) -> None:
    rank(connection, 0, 1, [0, 1, 2], [2, 1, 0])
    for slot, reward in enumerate((0.9, 0.2, 0.2)):
        key = {"run_name": RUN, "step": 0, "round": 1, "slot": slot, "reward_model": "truth"}
        insert(connection, "response_rewards", {**key, "reward": reward})
    (row,) = ask(connection, "run_ranking_accuracy", bins=2)
    assert tuple(row.values()) == ("truth", 0, 0, 2, 1.0, 0.0)


def test_run_losses_averages_over_the_prompts_of_an_optimizer_step(connection: duckdb.DuckDBPyConnection) -> None:
    shared = {"round": 1, "optimizer_step": 0, "gradient_norm": 2.0, "learning_rate": 0.1}
    for step, loss in ((0, 5.0), (1, 9.0)):
        losses = {"loss": loss, "rank_loss": 1.0, "sft_loss": loss / 4}
        insert(connection, "rounds", {**ROUND, **shared, "step": step, **losses})
    insert(connection, "rounds", {**ROUND, "step": 2, "round": 1, "state": "unranked"})
    assert [tuple(row.values()) for row in ask(connection, "run_losses")] == [(0, 0, 2, 7.0, 1.0, 1.75, 2.0, 0.1)]


def test_run_unranked_counts_reasons_against_all_rounds(connection: duckdb.DuckDBPyConnection) -> None:
    for step, reason in enumerate(("refusal", "malformed", "malformed")):
        row = {**ROUND, "step": step, "round": 1, "state": "unranked", "unranked_reason": reason}
        insert(connection, "rounds", row)
    insert(connection, "rounds", {**ROUND, "step": 3, "round": 1})
    assert [tuple(row.values()) for row in ask(connection, "run_unranked")] == [
        ("malformed", 2, 0.5),
        ("refusal", 1, 0.25),
    ]


def test_run_demonstrations_counts_how_often_each_was_shown(connection: duckdb.DuckDBPyConnection) -> None:
    text = {"run_name": RUN, "instruction": "i", "responses": ["a", "b"], "ranking": [1, 0]}
    insert(connection, "demonstrations", {**text, "demonstration": 0, "kind": "static"})
    insert(connection, "demonstrations", {**text, "demonstration": 1, "kind": "dynamic", "step": 0, "round": 2})
    for number in (1, 2):
        shown = {"run_name": RUN, "step": 0, "round": number, "position": 0, "demonstration": 0}
        insert(connection, "round_demonstrations", shown)
    assert [tuple(row.values()) for row in ask(connection, "run_demonstrations")] == [
        (0, "static", None, None, "i", ["a", "b"], [1, 0], 2),
        (1, "dynamic", 0, 2, "i", ["a", "b"], [1, 0], 0),
    ]
