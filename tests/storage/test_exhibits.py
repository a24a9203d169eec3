"""Exhibits read from a ledger: which there are, which run and which parameters are meant."""

from collections.abc import Iterator

import pytest

from cyclealign.errors import RunUnknown, UsageError
from storage import evaluations, exhibits, runs
from storage.ledger import Ledger
from tests.storage.values import new_run


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """Exhibits only read, so the tests share a ledger."""
    ledger = Ledger(tmp_path_factory.mktemp("home"))
    for name in ("a-run", "b-run"):
        runs.register(ledger, new_run(name))
    yield ledger
    ledger.close()


def test_a_name_may_be_written_with_dashes_or_underscores() -> None:
    assert exhibits.file_name("table-3") == exhibits.file_name("table_3") == exhibits.file_name("Table-3") == "table_3"


def test_an_unknown_exhibit_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"No exhibit 'table-9'.*figure-4.*table-3"):
        exhibits.file_name("table-9")


@pytest.mark.parametrize("name", ["../queries/runs/names", "runs/names", ""])
def test_a_name_reaches_no_other_file(name: str) -> None:
    with pytest.raises(UsageError, match="No exhibit"):
        exhibits.file_name(name)


@pytest.mark.parametrize("name", exhibits.known())
def test_every_exhibit_can_be_shown_of_a_run_that_has_done_nothing(two_runs: Ledger, name: str) -> None:
    run_names = () if exhibits.together(name) else ("a-run",)
    found = exhibits.read_exhibit(two_runs, name, run_names, {})
    assert found.name == exhibits.file_name(name)
    assert found.tables or found.notes


def test_an_unknown_run_lists_the_known_ones(two_runs: Ledger) -> None:
    with pytest.raises(RunUnknown, match=r"c-run.*a-run, b-run"):
        exhibits.read_exhibit(two_runs, "table-3", ["a-run", "c-run"], {})


def test_of_several_runs_one_has_to_be_named_where_the_exhibit_shows_one(two_runs: Ledger) -> None:
    with pytest.raises(UsageError, match=r"--run, of a-run, b-run"):
        exhibits.read_exhibit(two_runs, "run-settings", [], {})
    found = exhibits.read_exhibit(two_runs, "run-settings", ["b-run"], {})
    assert found.frame["run_name"].tolist() == ["b-run"]


def test_several_runs_stand_below_each_other(two_runs: Ledger) -> None:
    found = exhibits.read_exhibit(two_runs, "run-timings", ["a-run", "b-run"], {})
    assert found.frame["run_name"].tolist() == ["a-run"] * 5 + ["b-run"] * 5


def test_an_unknown_parameter_names_the_known_ones(two_runs: Ledger) -> None:
    with pytest.raises(UsageError, match=r"does not know colour.*bins"):
        exhibits.read_exhibit(two_runs, "run-agreement", ["a-run"], {"colour": "red"})


def test_a_reward_model_that_scored_nothing_is_refused_with_those_that_did(two_runs: Ledger) -> None:
    assert exhibits.read_exhibit(two_runs, "figure-4", [], {"reward_model": "rm"}).frame.empty
    evaluations.put_reward_scores(two_runs, "rm", {"a generation": 0.5})
    with pytest.raises(UsageError, match=r"Found reward_model=rmm, expected one that scored anything: rm\."):
        exhibits.read_exhibit(two_runs, "figure-4", [], {"reward_model": "rmm"})
    assert exhibits.read_exhibit(two_runs, "figure-4", [], {"reward_model": "rm"}).frame.empty


def test_an_exhibit_over_all_runs_takes_none(two_runs: Ledger) -> None:
    with pytest.raises(UsageError, match="all finished runs"):
        exhibits.read_exhibit(two_runs, "table-4", ["a-run"], {})
