"""Given a few rows, each of the paper's tables and figures answers with exactly these."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import pytest

from cyclealign.records import SUBSETS
from cyclealign.report.exhibits import paper_rows
from tests.plain_ledger import plain_connection
from tests.sql.rows import (
    RUN,
    SETTINGS,
    answer_call,
    ask,
    compare,
    evaluate,
    insert,
    rank,
    register,
    say,
    score,
    use,
    values,
)

Ledger = duckdb.DuckDBPyConnection
OF_ALL_RUNS = (
    "table_1",
    "table_1_scores",
    "table_2",
    "table_2_outcomes",
    "table_2_verdicts",
    "table_3",
    "table_3_verdicts",
)
ARE_ALL_EVALUATED = """
insert into prompts by name
select $subset || '-' || place as prompt_id, $subset as subset, 'test' as split, [] as turns, '' as instruction
from range($size) as places(place);
insert into samples by name
select
    's' as sample_digest, 'evaluation' as purpose, 'd' as dataset_digest, prompt_id,
    (select count(*) from samples) + row_number() over () as position
from prompts where subset = $subset;
"""
REWARDS_OF_SYSTEM = """
insert into generations by name
select $role || prompt_id as generation_id, $role || '-system' as system_id, prompt_id, 'g' as generation_digest,
    '{}' as settings, '' as text, true as ended, now() as created_at
from prompts where subset = $subset;
insert into reward_scores by name
select $role || prompt_id as generation_id, 'rm' as reward_model, $reward as reward, now() as scored_at
from prompts where subset = $subset;
"""


def run_all(connection: Ledger, statements: str, **parameters: Any) -> None:
    for statement in duckdb.extract_statements(statements):
        named = {name: parameters[name] for name in statement.named_parameters}
        connection.execute(statement.query, named)


@pytest.mark.parametrize("exhibit", OF_ALL_RUNS)
def test_without_a_run_every_run_is_shown(evaluated: Ledger, exhibit: str) -> None:
    score(evaluated, "rm", {"after/p0": 1.0})
    compare(evaluated, "after/p0", "PRO/p0", "first")
    say(evaluated, "Ann", "after/p0", "PRO/p0", "first")
    use(evaluated, "another", ("after", "PRO"))
    assert {row["run_name"] for row in ask(evaluated, exhibit, run_name=None)} == {RUN, "another"}
    assert {row["run_name"] for row in ask(evaluated, exhibit, run_name=RUN)} == {RUN}


def test_table_1_averages_over_responses_and_shows_how_many_there_are(evaluated: Ledger) -> None:
    score(evaluated, "rm", {"after/p0": 0.0, "after/p1": math.log(3), "after/p2": math.log(3), "PRO/p1": -1000.0})
    score(evaluated, "rm", {"after/elsewhere": 50.0})
    rows = {(row["role"], row["subset"]): row for row in ask(evaluated, "table_1", run_name=RUN)}
    total, helpful, theirs = rows["after", "all"], rows["after", "helpful-base"], rows["PRO", "all"]
    assert (total["responses"], total["prompts"], helpful["responses"]) == (3, 3, 2)
    assert total["sigmoid_mean_100"] == pytest.approx((50 + 75 + 75) / 3)
    assert total["mean_reward"] == pytest.approx(2 * math.log(3) / 3)
    assert values([theirs], "responses", "prompts", "sigmoid_mean_100") == [(1, 3, pytest.approx(0))]


def test_table_1_has_the_papers_totals_from_its_subsets() -> None:
    """Paper: the means of Table 1 on the 8,552 test prompts of Table 6."""
    paper = paper_rows("table_1")
    assert paper is not None
    with plain_connection() as connection:
        for subset, size in zip(SUBSETS, (2312, 2354, 1137, 2749), strict=True):
            run_all(connection, ARE_ALL_EVALUATED, subset=subset, size=size)
        use(connection, RUN, tuple(paper["role"].unique()))
        for role, subset, mean in zip(paper["role"], paper["subset"], paper["sigmoid_mean_100"], strict=True):
            if subset != "all":
                reward = math.log(mean / (100 - mean))
                run_all(connection, REWARDS_OF_SYSTEM, role=role, subset=subset, reward=reward)
        shown = {row["role"]: row for row in ask(connection, "table_1", run_name=RUN) if row["subset"] == "all"}
    totals = paper[paper["subset"] == "all"].set_index("role")["sigmoid_mean_100"]
    assert {row["responses"] for row in shown.values()} == {8552}
    # to 0.01; the rest is the rounding of floats
    found = {role: row["sigmoid_mean_100"] for role, row in shown.items()}
    assert found == pytest.approx(totals.to_dict(), abs=0.0101)


def test_table_1_scores_are_those_of_the_sample_in_its_order(evaluated: Ledger) -> None:
    score(evaluated, "rm", {"after/p1": 1.0, "after/p0": 2.0, "after/elsewhere": 3.0})
    rows = ask(evaluated, "table_1_scores", run_name=RUN)
    assert values(rows, "prompt_id", "reward") == [("p0", 2.0), ("p1", 1.0)]


def both(connection: Ledger, prompt: str, ours_first: str, theirs_first: str) -> None:
    compare(connection, f"after/{prompt}", f"PRO/{prompt}", ours_first)
    compare(connection, f"PRO/{prompt}", f"after/{prompt}", theirs_first)


def test_table_2_by_hand(evaluated: Ledger) -> None:
    both(evaluated, "p0", "first", "second")  # won in both orders
    both(evaluated, "p1", "first", "first")  # the first one both times: inconsistent
    both(evaluated, "p2", "first", "missing")
    rows = {row["subset"]: row for row in ask(evaluated, "table_2", run_name=RUN)}
    names = ("prompts", "win", "tie", "lose", "missing", "inconsistent")
    assert [rows["all"][name] for name in names] == pytest.approx([3, 100 / 3, 100 / 3, 0, 100 / 3, 100 / 3])
    assert [rows["helpful-base"][name] for name in names] == pytest.approx([2, 0, 50, 0, 50, 50])
    assert rows["harmless-base"]["win"] == 100


def test_pairs_are_seen_from_the_trained_model_else_from_the_first_label(evaluated: Ledger) -> None:
    compare(evaluated, "PRO/p0", "after/p0", "first")
    compare(evaluated, "before/p0", "PRO/p0", "second")
    say(evaluated, "Ann", "before/p0", "after/p0", "first")
    rows = [row for row in ask(evaluated, "table_2", run_name=RUN) if row["subset"] == "all"]
    assert values(rows, "role", "against", "win", "lose") == [
        ("PRO", "before", pytest.approx(100 / 3), 0),
        ("after", "PRO", 0, pytest.approx(100 / 3)),
    ]
    people = {(row["role"], row["against"], row["lose"]) for row in ask(evaluated, "table_3", run_name=RUN)}
    assert people == {("after", "before", 100.0)}


def test_table_2_counts_prompts_without_a_verdict_as_missing(evaluated: Ledger) -> None:
    """The judge has not seen p1, and to p2 one of the two has no response."""
    evaluated.execute("delete from generations where generation_id = 'PRO/p2'")
    compare(evaluated, "after/p0", "PRO/p0", "first")
    (total,) = (row for row in ask(evaluated, "table_2", run_name=RUN) if row["subset"] == "all")
    assert [total[name] for name in ("prompts", "win", "missing")] == pytest.approx([3, 100 / 3, 200 / 3])
    outcomes = values(
        ask(evaluated, "table_2_outcomes", run_name=RUN), "prompt_id", "outcome", "orders", "inconsistent"
    )
    assert outcomes == [("p0", "win", 1, False), ("p1", "missing", 0, False), ("p2", "missing", 0, False)]


def test_people_and_prompts_of_other_samples_are_none_of_table_2_and_models_none_of_table_3(evaluated: Ledger) -> None:
    say(evaluated, "Ann", "after/elsewhere", "PRO/elsewhere", "first")
    compare(evaluated, "after/elsewhere", "PRO/elsewhere", "first")
    for exhibit in ("table_2", "table_2_outcomes", "table_2_verdicts", "table_3", "table_3_verdicts"):
        assert ask(evaluated, exhibit, run_name=RUN) == []
    say(evaluated, "Ann", "after/p0", "PRO/p0", "first")
    assert ask(evaluated, "table_2", run_name=RUN) == []
    compare(evaluated, "after/p0", "before/p0", "first")
    assert {row["against"] for row in ask(evaluated, "table_3", run_name=RUN)} == {"PRO"}


def test_table_2_verdicts_know_order_lengths_and_who_answered(evaluated: Ledger) -> None:
    both(evaluated, "p0", "first", "missing")
    compare(evaluated, "after/p1", "PRO/p1", "tie", call_key=None)  # identical responses: not asked
    answer_call(evaluated, "after/p0 PRO/p0", "comparison", model="m-0613")
    names = ("ours_first", "verdict", "first_length", "second_length", "served_model")
    assert values(ask(evaluated, "table_2_verdicts", run_name=RUN), *names) == [
        (False, "missing", 3, 5, None),
        (True, "first", 5, 3, "m-0613"),
    ]


def test_table_3_maps_verdicts_back_from_the_order_of_presentation(evaluated: Ledger) -> None:
    say(evaluated, "Ann", "after/p0", "PRO/p0", "first")
    say(evaluated, "Ann", "PRO/p1", "after/p1", "first")
    say(evaluated, "Ann", "PRO/p2", "after/p2", "tie")
    third = pytest.approx(100 / 3)
    assert values(ask(evaluated, "table_3", run_name=RUN)) == [
        (RUN, "after", "PRO", "harmless-base", 1, 1, 1, 100.0, 0.0, 0.0),
        (RUN, "after", "PRO", "helpful-base", 1, 2, 2, 0.0, 50.0, 50.0),
        (RUN, "after", "PRO", "all", 1, 3, 3, third, third, third),
    ]


def test_table_3_counts_a_prompt_once_however_many_judged_it(evaluated: Ledger) -> None:
    """p1: two of three prefer the trained model, one says tie; p2: one prefers the other. (2/3 + 0) / 2 = 1/3."""
    for who, verdict in (("Ann", "first"), ("Ben", "first"), ("Eve", "tie")):
        say(evaluated, who, "after/p1", "PRO/p1", verdict)
    say(evaluated, "Ann", "PRO/p2", "after/p2", "first")
    row = ask(evaluated, "table_3", run_name=RUN)[-1]
    assert values([row], "annotators", "verdicts", "prompts") == [(3, 4, 2)]
    assert [row[name] for name in ("win", "tie", "lose")] == pytest.approx([100 / 3, 100 / 6, 50])


def test_table_3_verdicts_stand_beside_those_of_models_on_the_same_systems(evaluated: Ledger) -> None:
    say(evaluated, "Ann", "PRO/p0", "after/p0", "second")
    compare(evaluated, "after/p0", "PRO/p0", "first")
    compare(evaluated, "PRO/p0", "after/p0", "first")
    compare(evaluated, "after/p1", "PRO/p1", "missing")
    compare(evaluated, "after/p0", "before/p0", "first")
    assert values(ask(evaluated, "table_3_verdicts", run_name=RUN)) == [
        (RUN, "after", "PRO", "harmless-base", "p0", "judge", "model", "tie"),
        (RUN, "after", "PRO", "harmless-base", "p0", "Ann", "person", "win"),
    ]


def test_table_5_shows_the_largest_and_the_median_difference(evaluated: Ledger) -> None:
    score(evaluated, "rm", {"after/p0": 1.0, "after/p1": 2.0, "after/p2": 5.0, "PRO/p0": 0.0, "PRO/p1": 2.5})
    score(evaluated, "rm", {"PRO/p2": 2.0})
    score(evaluated, "other", {"after/p1": 9.0, "PRO/p1": 0.0})
    sides = {"run_name": RUN, "role": "after", "against": "PRO"}
    names = ("chosen", "prompt_id", "difference", "response", "response_against")
    assert values(ask(evaluated, "table_5", reward_model="rm", **sides), *names) == [
        ("largest", "p2", 3.0, "after", "PRO"),
        ("median", "p0", 1.0, "after", "PRO"),
    ]
    assert values(ask(evaluated, "table_5", reward_model="other", **sides), "chosen") == [("largest",)]


@pytest.fixture
def ablated() -> Iterator[Ledger]:
    """Two seeds with all demonstrations and one without any, under one reward model; rewards before were all 0."""
    with plain_connection() as opened:
        evaluate(opened, "nothing")
        opened.execute("delete from samples where prompt_id = 'p2'")
        add_run(opened, "full-0", {"icl": "full"}, seed=0, after={"p0": 1.0, "p1": 3.0})
        add_run(opened, "full-1", {"icl": "full"}, seed=1, after={"p0": 3.0, "p1": 5.0})
        add_run(opened, "off-0", {"icl": "off"}, seed=0, after={"p0": 0.0, "p1": 0.0})
        yield opened


def add_run(
    connection: Ledger, name: str, method: Mapping[str, Any], seed: int, after: Mapping[str, float], **columns: Any
) -> None:
    settings = json.dumps({"seed": seed, "method": {**SETTINGS["method"], **method}})
    register(connection, name, **{"seed": seed, "settings": settings, **columns})
    insert(connection, "run_samples", {"run_name": name, "purpose": "evaluation", "sample_digest": "s"})
    for role, rewards in (("before", dict.fromkeys(after, 0.0)), ("after", after)):
        system = f"{name}-{role}"
        place = {"role": role, "system_id": system, "generation_digest": "g"}
        insert(connection, "run_systems", {"run_name": name, **place})
        for prompt, reward in rewards.items():
            rest = {"text": "t", "ended": True, "settings": "{}", "created_at": "2026-01-01", "generation_digest": "g"}
            row = {"generation_id": f"{system}/{prompt}", "system_id": system, "prompt_id": prompt}
            insert(connection, "generations", {**row, **rest})
            score(connection, "r", {f"{system}/{prompt}": reward})


def add_round(connection: Ledger, run: str, step: int, black: list[int], rewards: tuple[float, ...]) -> None:
    rank(connection, step, 1, black, [0, 1, 2], rewards=rewards, run=run)


def test_a_run_under_a_second_name_is_no_second_seed(ablated: Ledger) -> None:
    later = {"settings_digest": "full-1", "created_at": "2026-12-01"}
    add_run(ablated, "full-1-again", {"icl": "full"}, seed=1, after={"p0": 3.0, "p1": 5.0}, **later)
    for run in ("full-0", "full-1", "full-1-again"):
        add_round(ablated, run, 0, [0, 1, 2], (3.0, 2.0, 1.0))
    for exhibit, bins in (("table_4", {}), ("figure_5", {}), ("figure_4", {"bins": 1})):
        rows = [row for row in ask(ablated, exhibit, reward_model="r", **bins) if row["icl"] == "full"]
        assert {row["seeds"] for row in rows} == {2}
    runs = {row["run_name"] for row in ask(ablated, "table_4_runs", reward_model="r")}
    assert runs == {"full-0", "full-1", "off-0"}


@pytest.mark.parametrize("change", ["other prompts", "other generation settings"])
def test_runs_that_were_evaluated_otherwise_are_not_averaged(ablated: Ledger, change: str) -> None:
    if change == "other prompts":
        ablated.execute(
            "insert into samples select * replace ('t' as sample_digest) from samples where prompt_id = 'p0'"
        )
        ablated.execute("update run_samples set sample_digest = 't' where run_name = 'full-1'")
    else:
        ablated.execute("update run_systems set generation_digest = 'h' where run_name = 'full-1'")
        ablated.execute("update generations set generation_digest = 'h' where system_id like 'full-1%'")
    rows = [row for row in ask(ablated, "table_4", reward_model="r") if (row["icl"], row["subset"]) == ("full", "all")]
    assert [row["seeds"] for row in rows] == [1, 1]
    assert {row["mean_reward"] for row in rows} == {2.0, 3.0 if change == "other prompts" else 4.0}


def test_table_4_averages_over_seeds_each_counting_once(ablated: Ledger) -> None:
    rows = {(row["icl"], row["subset"]): row for row in ask(ablated, "table_4", reward_model="r")}
    assert {key: (row["seeds"], row["responses"], row["mean_reward"]) for key, row in rows.items()} == {
        ("full", "all"): (2, 4, 3.0),
        ("full", "harmless-base"): (2, 2, 2.0),
        ("full", "helpful-base"): (2, 2, 4.0),
        ("off", "all"): (1, 2, 0.0),
        ("off", "harmless-base"): (1, 1, 0.0),
        ("off", "helpful-base"): (1, 1, 0.0),
    }
    full, off = rows["full", "all"], rows["off", "all"]
    assert (full["spread_of_reward"], full["mean_gain"]) == (pytest.approx(2**0.5), 3.0)
    assert (off["spread_of_reward"], off["sigmoid_mean_100"]) == (None, 50.0)


def test_runs_that_differ_in_something_else_are_not_averaged_together(ablated: Ledger) -> None:
    add_run(ablated, "four", {"icl": "full", "candidates": 4}, seed=2, after={"p0": 9.0, "p1": 9.0})
    found = [row for row in ask(ablated, "table_4", reward_model="r") if (row["icl"], row["subset"]) == ("full", "all")]
    assert sorted(values(found, "seeds", "mean_reward")) == [(1, 9.0), (2, 3.0)]
    assert len({row["other_settings"] for row in found}) == 2


@pytest.mark.parametrize("columns", [{"state": "paused"}, {"kind": "refold"}, {"kind": "baseline"}], ids=str)
def test_only_finished_runs_of_the_cycle_are_ablations(ablated: Ledger, columns: dict[str, str]) -> None:
    before = ask(ablated, "table_4_runs", reward_model="r")
    assert [
        values([row], "icl", "seed", "run_name", "reward_after")[0] for row in before if row["subset"] == "all"
    ] == [("full", 0, "full-0", 2.0), ("full", 1, "full-1", 4.0), ("off", 0, "off-0", 0.0)]
    add_run(ablated, "other", {"icl": "full"}, seed=5, after={"p0": 9.0, "p1": 9.0}, **columns)
    assert ask(ablated, "table_4_runs", reward_model="r") == before


def test_figure_4_counts_pairs_in_the_order_of_the_rewards_and_leaves_ties_out(ablated: Ledger) -> None:
    add_round(ablated, "full-0", 0, [0, 1, 2], (3.0, 2.0, 1.0))
    add_round(ablated, "full-0", 3, [0, 1, 2], (1.0, 2.0, 2.0))
    add_round(ablated, "full-1", 1, [2, 1, 0], (3.0, 2.0, 1.0))
    columns = ("icl", "first_step", "last_step", "seeds", "pairs", "accuracy", "kendall_tau")
    assert values(ask(ablated, "figure_4", reward_model="r", bins=2), *columns) == [
        ("full", 0, 1, 2, 6, 0.5, 0.0),
        ("full", 3, 3, 1, 2, 0.0, -1.0),
    ]


def test_figure_5_follows_the_largest_number_of_rounds(ablated: Ledger) -> None:
    add_run(ablated, "one", {"rounds": 1}, seed=0, after={"p0": 1.0, "p1": 1.0})
    for run in ("one", "full-0", "full-1"):
        add_round(ablated, run, 0, [0, 1, 2], (3.0, 2.0, 1.0))
    rows = [row for row in ask(ablated, "figure_5", reward_model="r") if row["subset"] == "all"]
    assert values(rows, "rounds", "seeds", "rounds_per_step", "mean_reward") == [(1, 1, 1.0, 1.0), (5, 2, 1.0, 3.0)]
