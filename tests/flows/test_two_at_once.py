"""Several processes on one ledger: flows beside each other, and readers that hold the ledger or its snapshot."""

import asyncio
import shutil
import threading
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import duckdb
import pytest
from starlette.types import Receive, Scope, Send

from cyclealign.profiles import merge
from flows.train import train
from storage import runs
from storage.asking import answer
from storage.ledger import Ledger
from tests.flows.children import TINY, Place, evaluate_there, read_until, train_there
from tests.flows.ended_runs import EndedRun, differing_rows
from tests.flows.judge_server import JudgeServer
from tests.forks import FORKS, start

HELD_S = 1.0
"""How long the ledger is kept from the run that waits for it."""


def home_beside(world_home: Path, folder: Path) -> Path:
    """An empty home with the same world."""
    folder.mkdir()
    shutil.copytree(world_home / "world", folder / "world")
    return folder


def seeded(seed: int) -> dict[str, Any]:
    return merge(TINY, {"seed": seed})


@dataclass(frozen=True)
class Crowd:
    """Two trainings and an evaluation that ran at the same time on one ledger, and the same trainings alone."""

    together: Path
    alone: dict[str, Path]
    """A home for each."""
    exits: dict[str, int | None]
    generated_before: list[Any]


@pytest.fixture(scope="module")
def crowd(world_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    folder, seeds = tmp_path_factory.mktemp("two-at-once"), {"finished": 0, "one": 1, "other": 2}
    homes = {name: home_beside(world_home, folder / f"of {name}") for name in seeds}
    done(*[start(train_there, Place.here(homes[name]), name, seeded(seed)) for name, seed in seeds.items()])
    together = homes.pop("finished")
    generated = generations(together, "finished")
    place = Place.here(together, output=folder / "output")
    exits = done(
        start(train_there, place, "one", seeded(1)),
        start(train_there, place, "other", seeded(2)),
        start(evaluate_there, place, "finished"),
    )
    return Crowd(together, homes, dict(zip(("one", "other", "evaluation"), exits, strict=True)), generated)


def done(*processes: BaseProcess) -> list[int | None]:
    """The exit codes, once all have ended."""
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def generations(home: Path, run: str) -> list[Any]:
    """What a run's evaluation generated, and when."""
    frame, _ = answer(
        home,
        "select generation_id, text, created_at from generations join run_systems using (system_id)"
        f" where run_name = '{run}' order by all",
    )
    return frame.to_dict("records")


def test_two_trainings_and_an_evaluation_at_once_end_well(crowd: Crowd) -> None:
    assert crowd.exits == {"one": 0, "other": 0, "evaluation": 0}
    states = {run.name: run.state for run in runs.status(Ledger(crowd.together))}
    assert states == dict.fromkeys(("finished", "one", "other"), "complete")


@pytest.mark.parametrize("run", ["one", "other"])
def test_a_training_beside_another_ends_as_if_it_were_alone(crowd: Crowd, run: str) -> None:
    homes = (crowd.together, crowd.alone[run])
    digests = {runs.status(Ledger(home), run)[0].weights_sha256 for home in homes}
    assert len(digests) == 1
    assert differing_rows(*[EndedRun(home, run) for home in homes]) == {}


def test_an_evaluation_during_a_training_repeats_nothing(crowd: Crowd) -> None:
    assert generations(crowd.together, "finished") == crowd.generated_before != []


class Interrupting(JudgeServer):
    """Keeps its third answer back until somebody else has the ledger open, who keeps it for a while from then on."""

    def __init__(self, home: Path, overrides: dict[str, Any]) -> None:
        super().__init__(home, overrides)
        self._ledger = home / "ledger.duckdb"
        self._questions = 0
        self.holding, self._enough = FORKS.Event(), FORKS.Event()
        self.reader: BaseProcess | None = None

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One chat completion."""
        self._questions += 1
        if self._questions == 3:
            await asyncio.to_thread(self._let_somebody_in)
        await super().handle(scope, receive, send)

    def _let_somebody_in(self) -> None:
        self.reader = start(read_until, self._ledger, self.holding, self._enough)
        self.holding.wait(30)
        threading.Timer(HELD_S, self._enough.set).start()


@dataclass(frozen=True)
class Disturbed:
    """A run during which others read: one the snapshot all the time, one the ledger in the middle."""

    home: Path
    undisturbed: str
    """Digest of the weights of the same run alone; its calls were paid for in another home."""
    result: dict[str, Any]
    held: bool
    reader_of_ledger: int | None
    reader_of_snapshot: int | None


@pytest.fixture(scope="module")
def disturbed(crowd: Crowd) -> Disturbed:
    home, enough, reading = crowd.together, FORKS.Event(), FORKS.Event()
    snapshot = start(read_until, home / "snapshot.duckdb", reading, enough)
    assert reading.wait(30)
    with Interrupting(home, TINY) as judge, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CYCLEALIGN_HOME", str(home))
        black_box = {"endpoint": "api", "base_url": judge.url, "price": {"input": 1.0, "output": 2.0}}
        settings = merge(seeded(1), {"black_box": black_box})
        result = train(profile="laptop", overrides=settings, run="disturbed")
        assert judge.reader is not None
        judge.reader.join(30)
        held, reader = judge.holding.is_set(), judge.reader.exitcode
    enough.set()
    snapshot.join(30)
    whole = runs.status(Ledger(crowd.alone["one"]), "one")[0].weights_sha256
    return Disturbed(home, whole or "", result, held, reader, snapshot.exitcode)


def test_a_client_that_holds_the_snapshot_never_stops_a_run(disturbed: Disturbed) -> None:
    assert disturbed.result["state"] == "complete"
    assert disturbed.reader_of_snapshot == 0


def test_the_snapshot_is_renewed_under_a_client_that_holds_it(disturbed: Disturbed) -> None:
    with duckdb.connect(str(disturbed.home / "snapshot.duckdb"), read_only=True) as connection:
        found = connection.execute("select state from runs where run_name = 'disturbed'").fetchall()
    assert found == [("complete",)]


def test_a_client_that_holds_the_ledger_delays_a_run_and_does_not_break_it(disturbed: Disturbed) -> None:
    assert (disturbed.held, disturbed.reader_of_ledger) == (True, 0)
    assert disturbed.result["weights_sha256"] == disturbed.undisturbed
