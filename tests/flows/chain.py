"""A run that goes through one life after another, beside a judge that keeps account of what it is asked.

Each life is a process of its own (`tests.forks`), through the real flow, with the judge behind HTTP. Used by the tests
of crash points and of waves that alternate; leaves out the moments of death.
"""

import asyncio
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefect.settings import PREFECT_API_URL
from starlette.types import ASGIApp, Receive, Scope, Send

from cyclealign.profiles import merge
from storage import runs
from storage.ledger import Ledger
from storage.runs import RunStatus
from tests.flows import crash_program
from tests.flows.asked import Asked, Counted, asker_of
from tests.flows.crash_program import Start, Trap
from tests.flows.ended_runs import EndedRun
from tests.flows.judge_server import JudgeServer
from tests.flows.lives import Life
from tests.flows.remains import remains
from tests.forks import fork

PRICE = {"input": 1.0, "output": 2.0}


class Late:
    """An application whose answers to some askers come late.

    Args:
        app: Answers.
        delays_s: By asker, the delay of each answer; others are answered at once.
    """

    def __init__(self, app: ASGIApp, delays_s: Mapping[str, Iterator[float]]) -> None:
        self._app = app
        self._delays_s = delays_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for as long as this asker's next answer is to take, then answer."""
        await asyncio.sleep(next(self._delays_s.get(asker_of(scope), iter(())), 0.0))
        await self._app(scope, receive, send)


class CountingJudge(JudgeServer):
    """A judge that keeps account of its questions, kills who asks one too many, and answers whom it is told to late."""

    def __init__(self, home: Path, overrides: dict[str, Any]) -> None:
        super().__init__(home, overrides)
        self.log: list[Asked] = []
        self.delays_s: dict[str, Iterator[float]] = {}
        """By asker, the delay of each answer; none when they are through."""
        self._victim: tuple[multiprocessing.process.BaseProcess, str, int] | None = None
        self._app: Any = Counted(Late(self._app, self.delays_s), self._note)

    def kill(self, process: multiprocessing.process.BaseProcess, asker: str, questions: int) -> None:
        """Kill the process, which asks under this name, when it has asked so many more questions."""
        self._victim = process, asker, len(self.log_of(asker)) + questions

    def log_of(self, asker: str) -> list[Asked]:
        """The questions of one run, as they arrived."""
        return [one for one in self.log if one.asker == asker and not one.answered]

    def _note(self, one: Asked) -> None:
        self.log.append(one)
        if self._victim and not one.answered:
            process, asker, last = self._victim
            if one.asker == asker and len(self.log_of(asker)) == last:
                process.kill()


@dataclass
class Chain:
    """The lives of one run, all started by the same command but for what kills them."""

    judge: CountingJudge
    start: Start
    exits: list[int | None] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    drawn: list[list[int]] = field(default_factory=list)
    """Seeds that the white box sampled with, per life."""
    said: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """Where the run is; nothing else is there."""
        return self.start.home

    @property
    def run(self) -> str:
        """The run's name, under which it also asks."""
        return self.start.run

    @property
    def ended(self) -> EndedRun:
        """What it computed."""
        return EndedRun(self.home, self.run)

    @property
    def status(self) -> RunStatus:
        """Where it stands."""
        return runs.status(Ledger(self.home), self.run)[0]

    def go_through(self, moment: Trap | int | None) -> None:
        """One more life: until the trap closes, until it has asked so many questions, or to its end."""
        before = len(self.judge.log_of(self.run))
        self.start.draws.unlink(missing_ok=True)
        trap = moment if isinstance(moment, Trap) else None
        process = fork(crash_program.live, replace(self.start, trap=trap))
        if isinstance(moment, int):
            self.judge.kill(process, self.run, moment)
        process.start()
        process.join()
        self.exits.append(process.exitcode)
        asked = Counter(one.call for one in self.judge.log_of(self.run)[before:])
        self.lives.append(Life(asked, remains(self.home, self.run)))
        self.drawn.append(_seeds_in(self.start.draws))
        self.said.append(self.start.said.read_text())


def new_chain(name: str, folder: Path, world_home: Path, judge: CountingJudge, small: dict[str, Any]) -> Chain:
    """A run that has not lived yet, in a home of its own, so that it uses no other run's answers."""
    home = folder / name
    shutil.copytree(world_home / "world", home / "world")
    overrides = merge(small, {"black_box": {"endpoint": "api", "base_url": judge.url, "price": PRICE}})
    draws, said = folder / f"{name}.draws", folder / f"{name}.txt"
    return Chain(judge, Start(home, name, overrides, PREFECT_API_URL.value(), draws, said))


def _seeds_in(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []
