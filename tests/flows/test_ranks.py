"""The train flow on two ranks: the losses of one, a rank that dies ends the run, and nothing is left behind.

Every run is a process of its own with a second rank as a program beside it and gloo between them. Of the run on plain
torch the other rank is killed on the way, of the one on ZeRO-2 rank 0; both are continued by the same command. Three
prompts a wave and an optimizer step, so that two ranks never have equal shares.
"""

import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.settings import PREFECT_API_URL

from cyclealign.profiles import merge
from storage import runs
from storage.asking import answer
from storage.ledger import Ledger
from storage.runs import RunStatus
from tests.flows.conftest import SMALL
from tests.flows.crash_program import Start, Trap, live, other_ranks
from tests.forks import start

SHORT = {"sampling": {"max_new_tokens": 6}}
UNEVEN = merge(SMALL, {"data": {"prompts": 6}, "white_box": SHORT, "evaluation": {"prompts_per_subset": 1, **SHORT}})
UNEVEN["training"] = {"wave": 3, "prompts_per_optimizer_step": 3, "checkpoint_every": 3}
ENGINES: dict[str, dict[str, Any]] = {
    "plain": {"ranks": 2},
    "zero-2": {"ranks": 2, "engine": "deepspeed", "zero_stage": 2},
    "zero-3": {"ranks": 2, "engine": "deepspeed", "zero_stage": 3},
}
OPTIMIZER_STEP = "cyclealign.white_box.white_box:take_step"
TRAPS = {"plain": Trap(OPTIMIZER_STEP, number=2, victim="a rank"), "zero-2": Trap(OPTIMIZER_STEP, number=2)}


@dataclass
class Life:
    """From a start of the command to its end, as it is seen from outside."""

    ranks: list[psutil.Process] = field(default_factory=list)
    """But rank 0."""
    environments: list[dict[str, str]] = field(default_factory=list)
    """Theirs."""
    listening: set[str] = field(default_factory=set)
    """Addresses at which any of the ranks took connections."""
    exit_code: int | None = None
    said: str = ""
    left: RunStatus | None = None
    """Where the run stood when it was over."""


@dataclass
class Run:
    """A run in a home of its own, and its lives."""

    home: Path
    name: str
    lives: list[Life] = field(default_factory=list)

    def rounds(self) -> dict[tuple[int, int], dict[str, Any]]:
        """What each trained round taught, by step and round."""
        frame, _ = answer(
            self.home,
            "select step, round, loss, rank_loss, sft_loss, gradient_norm, optimizer_step from rounds"
            f" where run_name = '{self.name}' and state = 'trained'",
        )
        rows: list[dict[Any, Any]] = frame.to_dict("records")
        return {(row.pop("step"), row.pop("round")): row for row in rows}


@pytest.fixture(scope="module")
def live_through(world_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """A run from its first start to its end; with a trap it has two lives."""

    def through(name: str, training: Mapping[str, Any], trap: Trap | None = None) -> Run:
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(world_home / "world", folder / "home" / "world")
        run = Run(folder / "home", name)
        overrides = merge(UNEVEN, {"training": training})
        places = folder / "draws", folder / "said"
        command = Start(run.home, name, overrides, PREFECT_API_URL.value(), *places)
        if trap is not None:
            run.lives.append(one_life(replace(command, trap=trap)))
        run.lives.append(one_life(command))
        return run

    return through


def one_life(command: Start) -> Life:
    process, life = start(live, command), Life()
    while process.is_alive():
        with suppress(psutil.NoSuchProcess):
            observe(life, psutil.Process(process.pid))
        process.join(0.1)
    life.exit_code, life.said = process.exitcode, command.said.read_text()
    life.left = runs.status(Ledger(command.home), command.run)[0]
    Ledger(command.home).close()
    return life


def observe(life: Life, rank_zero: psutil.Process) -> None:
    ranks = other_ranks(rank_zero.pid)
    life.ranks += [rank for rank in ranks if rank not in life.ranks]
    life.environments += [rank.environ() for rank in ranks]
    for process in (rank_zero, *ranks):
        found = process.net_connections("tcp")
        life.listening |= {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}


@pytest.fixture(scope="module")
def alone(live_through: Callable[..., Run]) -> Run:
    """One rank, plain torch."""
    return live_through("alone", {})


@pytest.fixture(scope="module")
def ranked(live_through: Callable[..., Run]) -> dict[str, Run]:
    """Two ranks on every engine."""
    return {engine: live_through(engine, training, TRAPS.get(engine)) for engine, training in ENGINES.items()}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_losses_are_those_of_one_rank(alone: Run, ranked: dict[str, Run], engine: str) -> None:
    found, expected = ranked[engine].rounds(), alone.rounds()
    assert found.keys() == expected.keys()
    assert len(expected) > 6
    for place, row in expected.items():
        assert found[place] == pytest.approx(row, rel=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_last_start_completes_the_run(ranked: dict[str, Run], engine: str) -> None:
    last = ranked[engine].lives[-1]
    assert last.exit_code == 0, last.said
    assert last.left is not None
    assert last.left.state == "complete"
    assert (ranked[engine].home / engine / "adapter" / "adapter_model.safetensors").is_file()


def test_a_rank_that_is_killed_ends_the_run_with_an_error_that_names_it(ranked: dict[str, Run]) -> None:
    life = ranked["plain"].lives[0]
    (rank,) = life.ranks
    assert life.exit_code == 1
    assert f"RankLost: Rank 1 of 2 (process {rank.pid}) was killed by SIGKILL" in life.said
    assert life.left is not None
    assert life.left.state == "failed"


def test_rank_0_may_be_killed(ranked: dict[str, Run]) -> None:
    life = ranked["zero-2"].lives[0]
    assert life.exit_code == -signal.SIGKILL
    assert life.left is not None
    assert life.left.state == "interrupted"


@pytest.mark.parametrize("engine", ENGINES)
def test_no_rank_outlives_rank_0(ranked: dict[str, Run], engine: str) -> None:
    ranks = [rank for life in ranked[engine].lives for rank in life.ranks]
    assert len(ranks) == len(ranked[engine].lives)
    assert psutil.wait_procs(ranks, timeout=30)[1] == []


@pytest.mark.parametrize("engine", ENGINES)
def test_only_rank_0_has_the_key(ranked: dict[str, Run], engine: str) -> None:
    """The key is the run's name here."""
    found = [one for life in ranked[engine].lives for one in life.environments]
    assert {one["RANK"] for one in found} == {"1"}
    assert not [name for one in found for name, value in one.items() if value == engine]
    assert not [name for one in found for name in one if name.startswith("PREFECT_")]


@pytest.mark.parametrize("engine", ENGINES)
def test_ranks_listen_on_loopback_alone(ranked: dict[str, Run], engine: str) -> None:
    assert {address for life in ranked[engine].lives for address in life.listening} == {"127.0.0.1"}
