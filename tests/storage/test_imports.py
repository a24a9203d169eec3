"""Merging ledgers: all finished runs of the other one, once, or nothing."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from cyclealign.errors import LedgerConflict, UsageError
from storage import calls, evaluations, imports, rounds, runs
from storage.comparisons import Comparison
from storage.evaluations import System
from storage.ledger import Ledger
from storage.posting import shapes
from tests.storage.test_calls import REPLY, call_of
from tests.storage.test_evaluations import generation
from tests.storage.values import new_run, ranked, sampled, trained


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "other")
    yield opened
    opened.close()


def add_run(ledger: Ledger, name: str, *, finished: bool = True, loss: float = 0.5) -> None:
    """A run of one step and round."""
    runs.register(ledger, new_run(name))
    ledger.record(sampled(0, run_name=name), ranked(0, run_name=name), trained(0, loss=loss, run_name=name))
    if finished:
        runs.finish(ledger, name)


def everything(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    ledger.close()
    with duckdb.connect(str(ledger.path), read_only=True) as connection:
        names = [name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()]
        names.remove("postings")
        return {name: connection.execute(f"select * from {name} order by all").fetchall() for name in names}


def test_a_merged_run_is_the_same_in_both_ledgers_and_merging_again_changes_nothing(
    ledger: Ledger, other: Ledger
) -> None:
    add_run(ledger, "here")
    add_run(other, "there")
    other.close()
    found = imports.merge(ledger, other.home)
    assert found.runs == ("there",)
    assert rounds.recorded(ledger, "there", 0, 1) == rounds.recorded(other, "there", 0, 1)
    other.close()
    merged = everything(ledger)
    assert imports.merge(ledger, other.path) == imports.Imported((), (), 0)
    assert everything(ledger) == merged


def test_the_same_verdict_at_another_time_is_no_conflict(ledger: Ledger, other: Ledger) -> None:
    for one in (ledger, other):
        one.record(Comparison("a", "b", "a judge", "model", "tie"))
    other.close()
    assert imports.merge(ledger, other.home).rows == 0


def test_other_responses_of_the_same_model_and_seed_say_where_that_comes_from(ledger: Ledger, other: Ledger) -> None:
    for one, text in ((ledger, "Yes."), (other, "Yes!")):
        one.record(generation("p1", text))
    other.close()
    with pytest.raises(LedgerConflict, match="machines round differently"):
        imports.merge(ledger, other.home)


def test_other_content_under_the_same_name_is_refused_whole_and_named(ledger: Ledger, other: Ledger) -> None:
    add_run(ledger, "same", loss=0.5)
    add_run(other, "new")
    add_run(other, "same", loss=0.25)
    other.close()
    before = everything(ledger)
    with pytest.raises(LedgerConflict, match=r"trained_rounds: same 0 1"):
        imports.merge(ledger, other.path)
    assert everything(ledger) == before


def test_unfinished_runs_stay_where_they_are(ledger: Ledger, other: Ledger) -> None:
    add_run(other, "done")
    add_run(other, "halfway", finished=False)
    other.close()
    found = imports.merge(ledger, other.path)
    assert (found.runs, found.skipped) == (("done",), ("halfway",))
    assert rounds.recorded(ledger, "halfway", 0, 1) == {}


def test_an_answer_that_both_bought_stays_and_the_money_of_both_counts(ledger: Ledger, other: Ledger) -> None:
    for one in (ledger, other):
        add_run(one, "a-run" if one is ledger else "b-run")
        asked = call_of("0.5", run_name="a-run" if one is ledger else "b-run")
        attempt = calls.begin_attempt(one, asked, cap=None)
        calls.settle(one, attempt, REPLY, Decimal("0.25"))
    other.close()
    imports.merge(ledger, other.path)
    assert calls.spend(ledger, "a-run") == calls.spend(ledger, "b-run") == Decimal("0.25")


@pytest.mark.parametrize(("gap", "refused"), [(1e-6, False), (0.1, True)], ids=["rounding", "another reward"])
def test_rewards_are_the_same_up_to_rounding(ledger: Ledger, other: Ledger, gap: float, refused: bool) -> None:
    for one, reward in ((ledger, 1.0), (other, 1.0 + gap)):
        one.record(System("before", {"model": "m"}))
        evaluations.put_reward_scores(one, "a-model", {"a-generation": reward})
    other.close()
    if refused:
        with pytest.raises(LedgerConflict, match="reward_scores: a-generation a-model"):
            imports.merge(ledger, other.path)
    else:
        imports.merge(ledger, other.path)
        assert evaluations.reward_scores(ledger, "a-model", ["a-generation"]) == {"a-generation": 1.0}


def test_a_ledger_is_not_merged_into_itself_and_one_that_is_not_there_is_named(ledger: Ledger) -> None:
    add_run(ledger, "here")
    with pytest.raises(UsageError, match="the ledger of this home"):
        imports.merge(ledger, ledger.home)
    with pytest.raises(UsageError, match="No ledger at"):
        imports.merge(ledger, ledger.home / "nowhere")


def test_a_home_whose_journals_are_not_posted_is_merged_whole(ledger: Ledger, other: Ledger) -> None:
    add_run(other, "there")
    assert not other.path.exists()
    assert imports.merge(ledger, other.home).runs == ("there",)
    assert not other.path.exists()


def test_every_table_of_the_ledger_is_known_to_the_merge() -> None:
    named = {*imports.OTHER_KEYS, *imports.NOT_COMPARED, *imports.NEVER_IN_CONFLICT, *imports.LEFT_OUT}
    assert named <= set(shapes())
