"""A run of the laptop profile that is killed and started again until it is complete, or left alone.

Every life is `cyclealign train` with the same arguments, in a session of its own: the kill takes it and its helpers at
once. Prefect's server, which the command starts in another session, is left to notice by itself. Nothing in the
application helps with the moments of the kills: they come from a seed and from what can be seen from outside, its error
output, the files that it writes, the judge's log and the ledger.
"""

import asyncio
import os
import random
import signal
import time
from asyncio.subprocess import DEVNULL, Process
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.judge import JudgeProcess
from benchmarks.laptop import command, environment, new_home
from benchmarks.measuring import ROOT
from cyclealign.seeds import derive_seed
from tests.flows.lives import Life
from tests.flows.remains import remains

PRICE = {"input": 1.0, "output": 2.0}
"""US dollars per million tokens, so that money is counted."""
WEIGHTS = {"start-up": 0.12, "work": 0.48, "call": 0.2, "file": 0.2}
"""Of the signs that a kill follows: the start itself; everything is loaded; a question has reached the judge; something
is being written."""
LONGEST = {"start-up": 1.0, "call": 0.005, "file": 0.001}
"""Longest time from the sign to the kill, in starts: all takes longer on a machine that takes longer to start."""
WORKING = 0.6
"""The same for work, on average: longer than the work that a kill loses, or nothing would ever get done."""
FIRST_START_S = 8.0
"""About how long a start takes (imports, Prefect's server, models), until one was seen."""
UNDER_WAY = "Evaluation before"
"""The run says so when everything is loaded."""
WRITTEN = ("*/checkpoints/.step-*", "*/checkpoints/step-*", "*/adapter/*", "*/report/*", "ledger.*")
PHASES = {"Run ": "loading", "Evaluation": "evaluation", "  step ": "cycle", "Ranking accuracy": "rewards"}
"""By the beginning of a line of its error output."""
ARRIVING_S = 0.2
"""A killed process's last words may still be on their way to the judge's log."""


@dataclass
class Kills:
    """How many kills are left; several runs take from them."""

    left: int


class ChaosRun:
    """One run, in a home of its own that shares the built world."""

    def __init__(self, folder: Path, built: Path, judge: JudgeProcess, seed: int, name: str) -> None:
        self.seed, self.name, self.judge = seed, name, judge
        self.home = new_home(folder, name, built)
        self.kills: list[dict[str, Any]] = []
        """By kill: its sign, seconds since the start of the life, the phase it fell into, rounds recorded by then."""
        self.lives: list[Life] = []
        self._start_s = FIRST_START_S

    async def go(self, kills: Kills) -> None:
        """Start the run again and again until it is complete; it is killed as long as there are kills."""
        killed = True
        while killed:
            kill = min(1, kills.left)
            kills.left -= kill
            killed = await self._life(kill=bool(kill))
            if not killed:
                kills.left += kill

    async def _life(self, *, kill: bool) -> bool:
        """One start; returns whether it was killed, and not complete before that."""
        number, asked, started = len(self.lives), len(self._asked()), time.time()
        said = self.home / f"life-{number}.txt"
        process, draw = await self._start(said), random.Random(derive_seed("chaos", self.seed, number))
        (sign,) = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))
        delay = draw.expovariate(1 / WORKING) if sign == "work" else draw.uniform(0, LONGEST[sign])
        try:
            if kill:
                await self._wait_for(sign, delay, process, said)
            else:
                await process.wait()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):  # it has just ended
                    os.killpg(process.pid, signal.SIGKILL)
        at, killed = time.time(), await process.wait() == -signal.SIGKILL
        words = said.read_text(errors="replace")
        if process.returncode and not killed:
            raise RuntimeError(f"{self.name} ended with {process.returncode} in its life {number}:\n{words[-2000:]}")
        await asyncio.sleep(ARRIVING_S)
        left = await asyncio.to_thread(remains, self.home, self.name)
        self.lives.append(Life(Counter(self._asked()[asked:]), left))
        if killed:
            named = phase(words)
            self.kills.append(
                {"sign": sign, "seconds": at - started, "phase": phase(words), "rounds": len(left.rounds)}
            )
            click.echo(f"{self.name}: kill {len(self.kills)}, {named}, {at - started:.0f} s", err=True)
        return killed

    async def _wait_for(self, sign: str, delay: float, process: Process, said: Path) -> None:
        """Wait for the sign and then for the delay (in starts), or for the end of the process."""
        started = time.time()

        async def until(seen: Callable[[], bool]) -> None:
            while not seen():  # noqa: ASYNC110  files are looked at, nothing notifies
                await asyncio.sleep(0.001)

        async def come() -> None:
            if sign != "start-up":
                await until(lambda: UNDER_WAY in said.read_text(errors="replace"))
                self._start_s = time.time() - started
            if sign == "call":
                await until(lambda: self.judge.is_asked_by(self.name))
            elif sign == "file":
                loaded = time.time()
                await until(lambda: self._writes(loaded))
            await asyncio.sleep(delay * self._start_s)

        coming, ended = asyncio.create_task(come()), asyncio.create_task(process.wait())
        try:
            done, _ = await asyncio.wait((coming, ended), return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            coming.cancel()
            ended.cancel()

    def _writes(self, since: float) -> bool:
        """Whether the run has written a checkpoint, adapter, report or ledger since then."""
        for path in (path for pattern in WRITTEN for path in self.home.glob(pattern)):
            with suppress(FileNotFoundError):  # it was put in place meanwhile
                if path.stat().st_mtime > since:
                    return True
        return False

    def _asked(self) -> list[str]:
        return [one.call for one in self.judge.log(self.name) if not one.answered]

    async def _start(self, said: Path) -> Process:
        settings: dict[str, Any] = {
            "seed": self.seed,
            "black_box.endpoint": "api",
            "black_box.base_url": self.judge.url,
            "black_box.price.input": PRICE["input"],
            "black_box.price.output": PRICE["output"],
        }
        changes = {"PREFECT_HOME": str(self.home / "prefect"), "OMP_NUM_THREADS": "1"}
        changes["OPENAI_API_KEY"] = self.name  # the judge's log says by it who asks
        with said.open("wb") as output:
            return await asyncio.create_subprocess_exec(
                *command(settings, self.name),
                cwd=ROOT,
                env=environment(self.home, **changes),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=output,
                start_new_session=True,
            )


def phase(words: str) -> str:
    """What the run was doing by its last words."""
    lines = [line for line in words.splitlines() if line.startswith(tuple(PHASES))]
    return next(PHASES[sign] for sign in PHASES if lines[-1].startswith(sign)) if lines else "start-up"
