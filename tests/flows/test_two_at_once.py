"""Several processes in one home: flows beside each other, readers, and a client that holds the ledger's file open."""

import shutil
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cyclealign.profiles import merge
from storage import runs
from storage.asking import answer
from storage.ledger import Ledger
from tests.flows.children import TINY, Place, ask_until, evaluate_there, read_until, train_there
from tests.flows.ended_runs import EndedRun, differing_rows
from tests.forks import FORKS, start

READERS = 10


def seeded(seed: int) -> dict[str, Any]:
    return merge(TINY, {"seed": seed})


@dataclass(frozen=True)
class Crowd:
    """Two trainings and an evaluation that ran at the same time on one ledger, and one of the trainings alone."""

    together: Path
    alone: Path
    exits: dict[str, int | None]
    generated_before: list[Any]
    readers: list[int | None]
    """Exit codes of those who asked all the time."""
    client: int | None
    """Exit code of a program that held the ledger's file open."""


@pytest.fixture(scope="module")
def crowd(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    folder = tmp_path_factory.mktemp("two-at-once")
    together, alone = (shutil.copytree(trained_once, folder / name) for name in ("together", "alone"))
    done(start(train_there, Place.here(alone), "one", seeded(1)))
    generated = generations(together, "whole")
    place, enough, reading = Place.here(together, output=folder / "output"), FORKS.Event(), FORKS.Event()
    client = start(read_until, together / "ledger.duckdb", reading, enough)
    readers = [start(ask_until, together, enough) for _ in range(READERS)]
    assert reading.wait(180)
    exits = done(
        start(train_there, place, "one", seeded(1)),
        start(train_there, place, "other", seeded(2)),
        start(evaluate_there, place, "whole"),
    )
    enough.set()
    ended = dict(zip(("one", "other", "evaluation"), exits, strict=True))
    return Crowd(together, alone, ended, generated, done(*readers), done(client)[0])


def done(*processes: BaseProcess) -> list[int | None]:
    """The exit codes, once all have ended."""
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def generations(home: Path, run: str) -> list[Any]:
    """What a run's evaluation generated, and when."""
    frame = answer(
        home,
        "select generation_id, text, created_at from generations join run_systems using (system_id)"
        f" where run_name = '{run}' order by all",
    )
    return frame.to_dict("records")


def test_two_trainings_and_an_evaluation_at_once_end_well(crowd: Crowd) -> None:
    assert crowd.exits == {"one": 0, "other": 0, "evaluation": 0}
    states = {run.name: run.state for run in runs.status(Ledger(crowd.together))}
    assert states == dict.fromkeys(("whole", "one", "other"), "complete")


def test_a_training_beside_another_ends_as_if_it_were_alone(crowd: Crowd) -> None:
    homes = (crowd.together, crowd.alone)
    digests = {runs.status(Ledger(home), "one")[0].weights_sha256 for home in homes}
    assert len(digests) == 1
    assert differing_rows(*[EndedRun(home, "one") for home in homes]) == {}


def test_an_evaluation_during_a_training_repeats_nothing(crowd: Crowd) -> None:
    assert generations(crowd.together, "whole") == crowd.generated_before != []


def test_ten_readers_at_once_see_every_count_grow_and_never_fall(crowd: Crowd) -> None:
    assert crowd.readers == [0] * READERS


def test_a_client_that_holds_the_file_all_the_time_changes_nothing(crowd: Crowd) -> None:
    assert crowd.client == 0
    with duckdb.connect(str(crowd.together / "ledger.duckdb"), read_only=True) as connection:
        assert connection.execute("select count(*) from runs where state = 'complete'").fetchall() == [(3,)]


def test_no_journal_of_the_dead_is_left(crowd: Crowd) -> None:
    Ledger(crowd.together).close()
    assert list((crowd.together / "journal").glob("*.jsonl")) == []
