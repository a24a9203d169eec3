"""A run that is killed at every moment that could hurt, one after another, ends as if nothing had happened.

One run goes through all moments in a chain: killed at the first, started again by the same command and killed at the
second, and so on. Each life is a process of its own (forked from a server that has the imports behind it), through
the real flow, with the judge behind HTTP.
"""

import multiprocessing
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from prefect.settings import PREFECT_API_URL

from cyclealign.profiles import merge
from cyclealign.seeds import derive_seed
from storage import migrations, runs
from storage.ledger import Ledger
from tests.flows import crash_program
from tests.flows.asked import Asked, Counted
from tests.flows.conftest import SMALL
from tests.flows.crash_program import Start, Trap
from tests.flows.ended_runs import EndedRun, differing_tables
from tests.flows.judge_server import JudgeServer
from tests.flows.lives import Life, asked_again, bought_again, without_cause
from tests.flows.remains import Remains, remains

PRICE = {"input": 1.0, "output": 2.0}
KILLED, WHOLE = "killed", "whole"
BY_THE_JUDGE = 3
"""The question at whose arrival the judge kills who asks; the other questions of the wave are under way then."""

MOMENTS: dict[str, Trap | int] = {
    "while the ledger's tables are made": Trap("storage.queries:load", about="schema/record"),
    "before the new ledger is put in place": Trap("pathlib:Path.replace", about="ledger.duckdb"),
    "while the first model's responses are generated": Trap(
        "storage.evaluations:put_generations", "after", 2
    ),
    "before the first step": Trap("tasks.progress:Progress.showing"),
    "while sampling": Trap("cyclealign.models.sampling:choose_tokens", number=5),
    "before the samples are recorded": Trap("storage.rounds:record_sampled"),
    "with calls in flight": BY_THE_JUDGE,
    "before an answer is committed": Trap("storage.calls:settle", number=2),
    "after an answer's commit, before it is parsed": Trap("storage.calls:settle", "after", 2),
    "after ranking, before the optimizer step": Trap("storage.rounds:record_ranked", "after"),
    "inside an optimizer step": Trap("torch.optim:AdamW.step", number=2),
    "after the optimizer steps, before they are recorded": Trap("storage.rounds:record_trained", number=2),
    "while a checkpoint is written": Trap("cyclealign.models.checkpoint_files:save_adapter", "after"),
    "before a checkpoint is put in place": Trap("pathlib:Path.replace", about="checkpoints/step-"),
    "after a checkpoint was put in place, before it is recorded": Trap(
        "storage.queries:load", about="checkpoints/put"
    ),
    "while the snapshot is written": Trap("pathlib:Path.replace", about="snapshot.duckdb"),
    "while a segment's candidates are scored": Trap("storage.response_rewards:put", "after", 2),
    "while a later checkpoint replaces older ones": Trap("shutil:rmtree", about="checkpoints/step-"),
    "after the adapter was written, before it is recorded": Trap("storage.runs:record_adapter"),
    "while the trained model's responses are generated": Trap(
        "storage.evaluations:put_generations", "after", 2
    ),
    "while rewards are stored": Trap("storage.evaluations:put_reward_scores", number=4),
    "before the run is noted as complete": Trap("storage.runs:finish"),
    "while the report is written": Trap("cyclealign.report.files:render_markdown"),
}


class CountingJudge(JudgeServer):
    """A judge that keeps account of its questions, and kills who asks one too many."""

    def __init__(self, home: Path, overrides: dict[str, Any]) -> None:
        super().__init__(home, overrides)
        self.log: list[Asked] = []
        self._victim: tuple[multiprocessing.process.BaseProcess, int] | None = None
        self._app: Any = Counted(self._app, self._note)

    def kill(self, process: multiprocessing.process.BaseProcess, questions: int) -> None:
        """Kill the process when it has asked so many more questions."""
        self._victim = process, len(self.log_of(KILLED)) + questions

    def log_of(self, asker: str) -> list[Asked]:
        """The questions of one run, as they arrived."""
        return [one for one in self.log if one.asker == asker and not one.answered]

    def _note(self, one: Asked) -> None:
        self.log.append(one)
        if self._victim and not one.answered and len(self.log_of(KILLED)) == self._victim[1]:
            self._victim[0].kill()


@dataclass
class Chain:
    """What became of the run."""

    judge: CountingJudge
    folder: Path
    exits: list[int | None] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    drawn: list[list[int]] = field(default_factory=list)
    """Seeds that the white box sampled with, per life."""
    said: list[str] = field(default_factory=list)

    def ended(self, name: str) -> EndedRun:
        """The killed or the whole run."""
        return EndedRun(self.folder / name, name)

    def go_through(self, start: Start, moment: Trap | int | None) -> None:
        """One more life."""
        before = len(self.judge.log_of(start.run))
        start.draws.unlink(missing_ok=True)
        process = FORKS.Process(
            target=crash_program.live,
            args=[replace(start, trap=moment if isinstance(moment, Trap) else None)],
        )
        process.start()
        if isinstance(moment, int):
            self.judge.kill(process, moment)
        process.join()
        self.exits.append(process.exitcode)
        asked = Counter(one.call for one in self.judge.log_of(start.run)[before:])
        self.lives.append(Life(asked, remains(start.home, start.run)))
        self.drawn.append(seeds_in(start.draws))
        self.said.append(start.said.read_text())


FORKS = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module")
def judge(world_home: Path) -> Iterator[CountingJudge]:
    server = CountingJudge(world_home, SMALL)
    with server:
        yield server


@pytest.fixture(scope="module")
def chain(world_home: Path, judge: CountingJudge, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The killed run beside the whole one, each in a home of its own, so that neither uses the other's answers."""
    FORKS.set_forkserver_preload([crash_program.__name__])
    folder = tmp_path_factory.mktemp("crash-points")
    chain = Chain(judge, folder)
    whole, killed = (start_of(name, folder, world_home, judge.url) for name in (WHOLE, KILLED))
    Chain(judge, folder).go_through(whole, None)
    for moment in (*MOMENTS.values(), None):
        chain.go_through(killed, moment)
    return chain


def start_of(name: str, folder: Path, world_home: Path, url: str) -> Start:
    home = folder / name
    shutil.copytree(world_home / "world", home / "world")
    black_box = {"endpoint": "api", "base_url": url, "price": PRICE}
    overrides = merge(SMALL, {"black_box": black_box})
    draws, said = folder / f"{name}.draws", folder / f"{name}.txt"
    return Start(home, name, overrides, PREFECT_API_URL.value(), draws, said)


def seeds_in(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_process_was_killed(chain: Chain, moment: str) -> None:
    life = list(MOMENTS).index(moment)
    assert chain.exits[life] == -signal.SIGKILL, chain.said[life]


def test_the_last_life_ends_well(chain: Chain) -> None:
    assert chain.exits[-1] == 0, chain.said[-1]
    assert (chain.folder / KILLED / KILLED / "report" / "report.html").exists()


def test_the_weights_are_those_of_the_uninterrupted_run(chain: Chain) -> None:
    whole, killed = (runs.status(Ledger(chain.folder / name), name)[0] for name in (WHOLE, KILLED))
    assert killed.state == whole.state == "complete"
    assert killed.weights_sha256 == whole.weights_sha256


def test_the_tables_are_those_of_the_uninterrupted_run(chain: Chain) -> None:
    assert differing_tables(chain.ended(WHOLE), chain.ended(KILLED)) == []


def test_no_answered_call_is_asked_again(chain: Chain) -> None:
    assert bought_again(chain.lives) == 0


def test_what_is_asked_again_was_in_flight_when_the_process_died(chain: Chain) -> None:
    assert asked_again(chain.lives).total() > 0
    assert without_cause(chain.lives) == 0


def test_every_request_is_an_attempt_of_the_ledger(chain: Chain) -> None:
    asked = Counter(one.call for one in chain.judge.log_of(KILLED))
    assert asked <= chain.lives[-1].left.attempts


def test_the_ledger_never_claims_less_than_was_spent(chain: Chain) -> None:
    answers = [one for one in chain.judge.log if one.asker == KILLED and one.answered]
    billed = sum(
        one.prompt_tokens * PRICE["input"] + one.completion_tokens * PRICE["output"] for one in answers
    )
    assert 0 < Decimal(billed) / 1_000_000 <= chain.lives[-1].left.spend_usd
    assert not chain.lives[-1].left.in_flight


def test_what_is_recorded_is_not_sampled_again(chain: Chain) -> None:
    for before, drawn in zip(chain.lives, chain.drawn[1:], strict=False):
        assert not set(drawn) & sampled_in(before.left)


def sampled_in(left: Remains) -> set[int]:
    return {derive_seed(0, "sample", step, round_) for step, round_ in left.rounds}


def test_what_was_generated_for_the_evaluation_is_not_generated_again(chain: Chain) -> None:
    of_rounds = sampled_in(chain.lives[-1].left)
    generated = [seed for drawn in chain.drawn for seed in drawn if seed not in of_rounds]
    assert len(generated) == 2 * len(set(generated)) == 16  # before and after, eight prompts each


def test_the_snapshot_is_whole_after_every_kill(chain: Chain) -> None:
    with duckdb.connect(str(chain.folder / KILLED / "snapshot.duckdb"), read_only=True) as connection:
        assert connection.execute("select state from runs").fetchall() == [("complete",)]


def test_a_migration_that_is_killed_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    with Ledger(tmp_path).session() as session:
        applied = session.rows("schema/applied")
    Ledger(tmp_path).close()
    later = migrations.Migration(9999, "later", "create table later (id integer); drop table responses")
    arguments = (tmp_path / "ledger.duckdb", later, Trap("storage.queries:load", about="schema/record"))
    process = FORKS.Process(target=crash_program.migrate, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with Ledger(tmp_path).session() as session:
        assert session.rows("schema/applied") == applied
        assert session.rows("rounds/recorded", run_name="any", first_step=0, last_step=1) == []
