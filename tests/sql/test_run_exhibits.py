"""Given a few rows of a run, each of its exhibits answers with exactly these; and what holds for every exhibit."""

import json
from typing import Any

import duckdb
import pytest

from storage import exhibits
from tests.sql.rows import NOW, ROUND, RUN, answer_call, ask, insert, rank, score, values

OF_A_RUN = [exhibits.file_name(name) for name in exhibits.known() if name.startswith("run-")]
PARAMETERS = {"bins": 2, "reward_model": "r", "role": "after", "against": "before", "run_name": RUN}
Ledger = duckdb.DuckDBPyConnection


def given(exhibit: str) -> dict[str, Any]:
    return {name: PARAMETERS[name] for name in exhibits.parameters_of(exhibit)}


@pytest.mark.parametrize("exhibit", [name for name in OF_A_RUN if name not in {"run_settings", "run_timings"}])
def test_a_run_that_has_done_nothing_has_no_rows(connection: Ledger, exhibit: str) -> None:
    assert ask(connection, exhibit, **given(exhibit)) == []


def test_run_settings_say_what_the_run_is_and_how_far_it_got(connection: Ledger) -> None:
    insert(connection, "rounds", {**ROUND, "step": 0, "round": 1}, {**ROUND, "step": 0, "round": 2})
    (row,) = ask(connection, "run_settings", run_name=RUN)
    assert values([row], "profile", "seed", "steps", "steps_done", "rounds", "elapsed_seconds") == [
        ("laptop", 3, 4, 1, 2, 90)
    ]
    assert json.loads(row["settings"])["method"]["rounds"] == 5


def test_run_spend_charges_unknown_attempts_at_their_reserve_and_tells_what_was_reused(connection: Ledger) -> None:
    for key in ("asked", "reused", "of another run"):
        answer_call(connection, key, prompt_tokens=100, completion_tokens=10)
    attempt = {"run_name": RUN, "started_at": NOW}
    insert(
        connection,
        "api_attempts",
        {**attempt, "call_key": "asked", "state": "unknown", "reserved_usd": "0.5"},
        {**attempt, "call_key": "asked", "state": "answered", "reserved_usd": "0.5", "cost_usd": "0.25"},
        {**attempt, "run_name": "other", "call_key": "reused", "state": "answered", "reserved_usd": "1"},
    )
    for step, key in enumerate(("asked", "reused")):
        insert(connection, "rounds", {**ROUND, "step": step, "round": 1, "call_key": key})
    assert values(ask(connection, "run_spend", run_name=RUN)) == [("ranking", "m", 2, 1, 2, 100, 10, 0.75)]


@pytest.mark.parametrize("source", ["hub", "folder", "world"])
def test_the_filters_counts_stand_beside_table_6_where_the_paper_has_one(evaluated: Ledger, source: str) -> None:
    options = {"location": "l", "options": "{}", "prepared_at": NOW}
    for digest in ("d", "of another run"):
        insert(evaluated, "datasets", {"dataset_digest": digest, "source": source, **options})
    for subset, split in (("helpful-online", "test"), ("harmless-base", "test"), ("helpful-base", "train")):
        file = {"dataset_digest": "d", "subset": subset, "split": split}
        insert(evaluated, "dataset_files", {**file, "rows_read": 10, "pairs_kept": 7})
    dropped = {"dataset_digest": "d", "subset": "harmless-base", "split": "test"}
    for reason, pairs in (("turns", 2), ("empty", 1), ("identical", 0)):
        insert(evaluated, "filter_drops", {**dropped, "reason": reason, "pairs_dropped": pairs})
    counts = (None, None, None) if source == "world" else (43835, 2312, 1137)
    rows = [
        ("helpful-base", "train", 10, 7, {}, counts[0]),
        ("harmless-base", "test", 10, 7, {"empty": 1, "turns": 2}, counts[1]),
        ("helpful-online", "test", 10, 7, {}, counts[2]),
    ]
    assert values(ask(evaluated, "run_filter", run_name=RUN)) == rows
    assert values(ask(evaluated, "table_6", run_name=None)) == [("d", *row) for row in rows]


def test_run_timings_sum_phases_and_count_a_waves_waiting_once(evaluated: Ledger) -> None:
    seconds = {"sampling_seconds": 1.0, "scoring_seconds": 0.5, "waiting_seconds": 2.5, "training_seconds": 1.0}
    insert(
        evaluated,
        "rounds",
        {**ROUND, **seconds, "step": 0, "round": 1},
        {**ROUND, **seconds, "step": 1, "round": 1, "waiting_seconds": 1.5},
        {**ROUND, **seconds, "step": 2, "round": 1, "wave": 1},
        {**ROUND, **seconds, "step": 2, "round": 2, "wave": 1},
    )
    phases = {"sampling": 4.0, "scoring": 2.0, "waiting": 7.5, "training": 4.0, "evaluation": 4.5}
    assert values(ask(evaluated, "run_timings", run_name=RUN)) == [
        (phase, seconds, pytest.approx(seconds / 22)) for phase, seconds in phases.items()
    ]


def test_run_rewards_average_per_subset_and_over_all_responses_of_the_sample(evaluated: Ledger) -> None:
    score(evaluated, "r", {"before/p0": 0.0, "after/p0": 2.0, "before/p1": -1000.0, "after/p1": 1000.0})
    score(evaluated, "r", {"before/elsewhere": 9.0})
    rows = {(row["subset"], row["role"]): row for row in ask(evaluated, "run_rewards", run_name=RUN)}
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


def test_run_scores_pair_what_both_sides_have(evaluated: Ledger) -> None:
    score(evaluated, "r", {"before/p0": 0.5, "after/p0": 2.0, "before/p1": 1.0, "PRO/p1": 4.0})
    score(evaluated, "q", {"before/p1": 0.1, "after/p1": 0.2})
    assert values(ask(evaluated, "run_scores", run_name=RUN)) == [
        ("q", "helpful-base", "p1", 0.1, 0.2),
        ("r", "harmless-base", "p0", 0.5, 2.0),
    ]


def test_run_text_describes_responses_per_subset_and_over_all(evaluated: Ledger) -> None:
    evaluated.execute("delete from run_systems where role = 'PRO'")
    looks = {
        "all": (3, 70 / 3, 1 / 3, 1 / 3),
        "harmless-base": (1, 10.0, 1.0, 0.0),
        "helpful-base": (2, 30.0, 0.0, 0.5),
    }
    assert values(ask(evaluated, "run_text", run_name=RUN)) == [
        (subset, role, *map(pytest.approx, figures))
        for subset, figures in looks.items()
        for role in ("after", "before")
    ]


def test_run_cases_put_the_largest_gain_first_and_the_unscored_last(evaluated: Ledger) -> None:
    score(evaluated, "r", {"before/p1": 1.0, "after/p1": 1.5, "before/p2": 1.0, "after/p2": 0.0})
    score(evaluated, "other", {"before/p0": 1.0, "after/p0": 9.0})
    first, _, last = ask(evaluated, "run_cases", run_name=RUN, reward_model="r")
    assert tuple(first.values()) == ("helpful-base", "p1", "Human: p1", "before", "after", 1.0, 1.5, 0.5)
    assert (last["prompt_id"], last["gain"]) == ("p0", None)


def test_preference_models_of_a_run_are_those_that_scored_it_and_those_fitted_with_them(evaluated: Ledger) -> None:
    score(evaluated, "evaluation", {"before/p0": 0.5, "after/p0": 0.5})
    for model in ("evaluation", "judge", "of another run"):
        for subset in ("all", "helpful-base"):
            row = {"reward_model": model, "subset": subset, "pairs": 120, "accuracy": 0.6, "measured_at": NOW}
            insert(evaluated, "preference_accuracies", row)
    for model in ("evaluation", "of another run"):
        row = {"reward_model": model, "other_model": "judge", "pairs": 480, "measured_at": NOW}
        insert(evaluated, "preference_correlations", {**row, "correlation": 0.87})
    assert values(ask(evaluated, "run_preference_accuracies", run_name=RUN)) == [
        (model, subset, 120, 0.6) for model in ("evaluation", "judge") for subset in ("helpful-base", "all")
    ]
    assert values(ask(evaluated, "run_preference_correlations", run_name=RUN)) == [("evaluation", "judge", 480, 0.87)]


def test_agreement_bins_steps_and_tells_first_rounds_apart(connection: Ledger) -> None:
    rank(connection, 0, 1, [0, 1, 2], [2, 1, 0])
    rank(connection, 0, 2, [0, 1, 2], [0, 1, 2])
    rank(connection, 1, 1, [0, 1, 2], [0, 2, 1])
    rank(connection, 2, 1, [2, 0, 1], [2, 0, 1])
    insert(connection, "rounds", {**ROUND, "step": 3, "round": 1, "state": "unranked", "unranked_reason": "refusal"})
    assert values(ask(connection, "run_agreement", run_name=RUN, bins=2)) == [
        (0, 1, 3, 1.5, pytest.approx(2 / 3), pytest.approx(0.5), pytest.approx(1 / 3), 0.0),
        (2, 2, 1, 1.0, 1.0, 1.0, 1.0, 1.0),
    ]
    taus = values(ask(connection, "run_ranking_agreement", run_name=RUN, bins=2))
    assert taus == [
        (0, 1, 3, pytest.approx(1 / 9), pytest.approx(-1 / 3), pytest.approx(5 / 9)),
        (2, 2, 1, 1.0, 1.0, 1.0),
    ]
    assert [row["first_step"] for row in ask(connection, "run_agreement", run_name=RUN, bins=100)] == [0, 1, 2]


def test_ranking_accuracy_counts_pairs_of_different_rewards(connection: Ledger) -> None:
    rank(connection, 0, 1, [0, 1, 2], [2, 1, 0], rewards=(0.9, 0.2, 0.2))
    assert values(ask(connection, "run_ranking_accuracy", run_name=RUN, bins=2)) == [("r", 0, 0, 2, 1.0, 0.0)]


def test_losses_average_over_the_prompts_of_an_optimizer_step(connection: Ledger) -> None:
    shared = {"round": 1, "optimizer_step": 0, "gradient_norm": 2.0, "learning_rate": 0.1}
    for step, loss in ((0, 5.0), (1, 9.0)):
        losses = {"loss": loss, "rank_loss": 1.0, "sft_loss": loss / 4}
        insert(connection, "rounds", {**ROUND, **shared, "step": step, **losses})
    insert(connection, "rounds", {**ROUND, "step": 2, "round": 1, "state": "unranked"})
    assert values(ask(connection, "run_losses", run_name=RUN)) == [(0, 0, 2, 7.0, 1.0, 1.75, 2.0, 0.1)]


def test_unranked_rounds_are_counted_by_reason_against_all(connection: Ledger) -> None:
    for step, reason in enumerate(("refusal", "malformed", "malformed")):
        row = {**ROUND, "step": step, "round": 1, "state": "unranked", "unranked_reason": reason}
        insert(connection, "rounds", row)
    insert(connection, "rounds", {**ROUND, "step": 3, "round": 1})
    assert values(ask(connection, "run_unranked", run_name=RUN)) == [("malformed", 2, 0.5), ("refusal", 1, 0.25)]


def test_demonstrations_count_how_often_each_was_shown(connection: Ledger) -> None:
    text = {"run_name": RUN, "instruction": "i", "responses": ["a", "b"], "ranking": [1, 0]}
    insert(connection, "demonstrations", {**text, "demonstration": 0, "kind": "static"})
    insert(connection, "demonstrations", {**text, "demonstration": 1, "kind": "dynamic", "step": 0, "round": 2})
    for number in (1, 2):
        shown = {"run_name": RUN, "step": 0, "round": number, "position": 0, "demonstration": 0}
        insert(connection, "round_demonstrations", shown)
    assert values(ask(connection, "run_demonstrations", run_name=RUN)) == [
        (0, "static", None, None, "i", ["a", "b"], [1, 0], 2),
        (1, "dynamic", 0, 2, "i", ["a", "b"], [1, 0], 0),
    ]


@pytest.mark.parametrize(
    ("raw", "fingerprint"),
    [
        ('{"model": "m", "system_fingerprint": "fp_1"}', "fp_1"),
        ('{"model": "m", "system_fingerprint": null}', None),
        ("[1", None),
        (None, None),
    ],
    ids=["given", "null", "broken", "not kept"],
)
def test_an_audit_stands_beside_what_was_recorded(evaluated: Ledger, raw: str | None, fingerprint: str | None) -> None:
    """One round whose three candidates are two texts; ranked 0, 2, 1, and asked again."""
    key = {"run_name": RUN, "step": 0, "round": 1}
    insert(evaluated, "rounds", {**ROUND, **key, "permutation": [2, 0, 1], "call_key": "first"})
    for slot, text in enumerate(("twin", "twin", "other")):
        insert(evaluated, "responses", {**key, "slot": slot, "kind": "candidate", "text": text})
    insert(evaluated, "rankings", {**key, "ranker": "black_box", "ranking": [0, 2, 1]})
    asked = {"permutation": [0, 1, 2], "ranking": [2, 0, 1], "call_key": "second", "audited_at": NOW}
    insert(evaluated, "audits", {**key, "audit_seed": 7, **asked})
    for name, served, body in (("first", "m-0613", raw), ("second", "m-1106", None)):
        answer_call(evaluated, name, model=served, raw=body)
    (row,) = ask(evaluated, "run_audit", run_name=RUN)
    assert values([row], "audit_seed", "subset", "lengths", "same_as") == [(7, "harmless-base", [4, 4, 5], [0, 0, 2])]
    for when, permutation, ranking, model in (
        ("recorded", [2, 0, 1], [0, 2, 1], "m-0613"),
        ("repeated", [0, 1, 2], [2, 0, 1], "m-1106"),
    ):
        names = (f"{when}_permutation", f"{when}_ranking", f"{when}_model")
        assert values([row], *names) == [(permutation, ranking, model)]
    assert (row["recorded_fingerprint"], row["repeated_fingerprint"]) == (fingerprint, None)
