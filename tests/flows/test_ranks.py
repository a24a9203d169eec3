"""The train flow on two ranks: the losses of one, a rank that dies ends the run, and it leaves nothing behind.

The run has three lives, each a process of its own with a second rank as a program beside it and gloo between them: of
the first the other rank is killed on the way, of the second rank 0, and the third completes the run by the same
command. Three prompts a wave and an optimizer step, so that two ranks never have equal shares. What ZeRO computes is
tested with the white box.
"""

import signal
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.settings import PREFECT_API_URL

from cyclealign.profiles import merge
from flows.train import train
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
RANKED = merge(UNEVEN, {"training": {"ranks": 2}})
SECOND_STEP = Trap("cyclealign.white_box.white_box:take_step", number=2)
KEY = "ranked"
"""The run's name is the key that its process has."""


@dataclass
class Life:
    """From a start of the command to its end, as seen from outside."""

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


def one_life(command: Start) -> Life:
    process, life = start(live, command), Life()
    while process.is_alive():
        with suppress(psutil.NoSuchProcess):
            observe(life, psutil.Process(process.pid))
        process.join(0.1)
    life.exit_code, life.said = process.exitcode, command.said.read_text()
    life.left = runs.status(Ledger(command.home), command.run)[0]
    return life


def observe(life: Life, rank_zero: psutil.Process) -> None:
    ranks = other_ranks(rank_zero.pid)
    life.ranks += [rank for rank in ranks if rank not in life.ranks]
    life.environments += [rank.environ() for rank in ranks]
    for process in (rank_zero, *ranks):
        found = process.net_connections("tcp")
        life.listening |= {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}


@pytest.fixture(scope="module")
def lives(world_home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Life]:
    folder = tmp_path_factory.mktemp("ranked")
    command = Start(world_home, KEY, RANKED, PREFECT_API_URL.value(), folder / "draws", folder / "said")
    traps = (replace(SECOND_STEP, victim="a rank"), SECOND_STEP, None)
    return [one_life(replace(command, trap=trap)) for trap in traps]


def test_a_rank_that_is_killed_ends_the_run_with_an_error_that_names_it(lives: list[Life]) -> None:
    (rank,) = lives[0].ranks
    assert lives[0].exit_code == 1
    assert f"RankLost: Rank 1 of 2 (process {rank.pid}) was killed by SIGKILL" in lives[0].said
    assert lives[0].left is not None
    assert lives[0].left.state == "failed"


def test_rank_0_may_be_killed(lives: list[Life]) -> None:
    assert lives[1].exit_code == -signal.SIGKILL
    assert lives[1].left is not None
    assert lives[1].left.state == "interrupted"


def test_the_last_start_completes_the_run_with_the_losses_of_one_rank(home: Path, lives: list[Life]) -> None:
    assert lives[2].exit_code == 0, lives[2].said
    assert lives[2].left is not None
    assert lives[2].left.state == "complete"
    assert (home / KEY / "adapter" / "adapter_model.safetensors").is_file()
    train(profile="laptop", overrides=UNEVEN, run="one-rank")
    found, expected = rounds(home, KEY), rounds(home, "one-rank")
    assert found.keys() == expected.keys()
    assert len(expected) > 6
    for place, row in expected.items():
        assert found[place] == pytest.approx(row, rel=1e-5)


def rounds(home: Path, run: str) -> dict[tuple[int, int], dict[str, Any]]:
    """What each trained round taught, by step and round."""
    frame = answer(
        home,
        "select step, round, loss, rank_loss, sft_loss, gradient_norm, optimizer_step from rounds"
        f" where run_name = '{run}' and state = 'trained'",
    )
    rows: list[dict[Any, Any]] = frame.to_dict("records")
    return {(row.pop("step"), row.pop("round")): row for row in rows}


def test_no_rank_outlives_rank_0(lives: list[Life]) -> None:
    ranks = [rank for life in lives for rank in life.ranks]
    assert len(ranks) == len(lives)
    assert psutil.wait_procs(ranks, timeout=30)[1] == []


def test_only_rank_0_has_the_key(lives: list[Life]) -> None:
    found = [one for life in lives for one in life.environments]
    assert {one["RANK"] for one in found} == {"1"}
    assert not [name for one in found for name, value in one.items() if value == KEY]
    assert not [name for one in found for name in one if name.startswith("PREFECT_")]


def test_ranks_listen_on_loopback_alone(lives: list[Life]) -> None:
    assert {address for life in lives for address in life.listening} == {"127.0.0.1"}
