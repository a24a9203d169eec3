"""Random kills: `python -m benchmarks.chaos --kills 100`; prints how runs end and writes `chaos.json`.

Runs of the laptop profile are killed by SIGKILL at random moments and started again by the same command, until the
kills are used up; then each is left to come to its end. After each, the same run (profile and seed) is left alone. The
two are compared: digest of the weights, every table of the cycles and of the evaluation; and the judge's own log of
questions is compared with the ledger as each kill left it.

Every life is `cyclealign train` in a session of its own: the kill takes it and its helpers at once. Prefect's server,
which the command starts in another session, is left to notice by itself. The moments come from the seed and from what
can be seen from outside, the run's error output, the files that it writes and the judge's log. Where in the work they
fall depends on how fast the machine is, so no two chaos runs are the same; what must come out of them is.
"""

import asyncio
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, Process
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from benchmarks import measuring
from benchmarks.judge import JudgeProcess
from benchmarks.laptop import build_world, command, environment, new_home
from benchmarks.measuring import ROOT, Row
from cyclealign.seeds import derive_seed
from storage import runs
from storage.ledger import Ledger
from tests.flows.ended_runs import EndedRun, differing_rows
from tests.flows.lives import Life, again_after, asked_again, bought_again, lost, without_cause
from tests.flows.remains import remains

PATH = Path(__file__).parent / "chaos.json"
KILLS = 10
MANY = 20
"""With more kills than these, two runs go side by side."""
Outcome = dict[str, Any]
"""One run that was killed, beside the one that was not: a record of `chaos.json`, see `compare`."""
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


def rows(repeats: int = 1) -> list[Row]:
    """The bars of ten random kills; each repeat begins with another seed."""
    return bars([chaos(KILLS, first_seed=repeat) for repeat in range(repeats)])


def chaos(kills: int, first_seed: int = 0, folder: Path | None = None) -> list[Outcome]:
    """The outcomes of so many kills; homes and logs are thrown away unless a folder is given or a run fails."""
    place = Path(tempfile.mkdtemp(prefix="cyclealign-chaos-")) if folder is None else folder
    place.mkdir(parents=True, exist_ok=True)
    built = build_world()
    with JudgeProcess(place, built) as judge:
        outcomes = asyncio.run(killed_and_whole(kills, first_seed, place, built, judge))
    if folder is None and not any(one["unequal"] for one in outcomes):
        shutil.rmtree(place)
    return outcomes


async def killed_and_whole(kills: int, seed: int, place: Path, built: Path, judge: JudgeProcess) -> list[Outcome]:
    """Kill until the kills are used up; every run is finished, and followed by the same run without kills."""
    left, seeds, found = Kills(kills), itertools.count(seed), list[Outcome]()

    async def stream() -> None:
        while left.left:
            seed, started = next(seeds), time.monotonic()
            killed = ChaosRun(place, built, judge, seed, f"killed-seed{seed}")
            await killed.go(left)
            if killed.kills:  # otherwise the other stream took the last one
                whole, spent = ChaosRun(place, built, judge, seed, f"whole-seed{seed}"), time.monotonic() - started
                await whole.go(Kills(0))
                found.append(await asyncio.to_thread(compare, killed, whole) | {"seconds": round(spent)})

    async with asyncio.TaskGroup() as streams:
        for _ in range(1 + (kills > MANY)):
            streams.create_task(stream())
    return sorted(found, key=lambda one: int(one["seed"]))


def compare(killed: ChaosRun, whole: ChaosRun) -> Outcome:
    """Everything that the bars are about."""
    lives, ended = killed.lives, killed.lives[-1].left
    in_flight = [lost(lives, number).total() for number in range(len(killed.kills))]
    again = [again_after(lives, number) for number in range(len(killed.kills))]
    digests = [str(runs.status(Ledger(one.home), one.name)[0].weights_sha256) for one in (killed, whole)]
    differing = [*differing_rows(EndedRun(killed.home, killed.name), EndedRun(whole.home, whole.name))]
    counts = zip(killed.kills, in_flight, again, strict=True)
    return {
        "seed": killed.seed,
        "kills": [kill | {"in_flight": flying, "asked_again": asked} for kill, flying, asked in counts],
        "weights_sha256": digests,
        "differing_tables": differing,
        "unequal": digests[0] != digests[1] or bool(differing),
        "requests": sum(life.asked.total() for life in lives),  # that reached the judge
        "attempts": ended.attempts.total(),  # in the ledger
        "in_flight": sum(in_flight),  # at the kills
        "asked_again": asked_again(lives).total(),
        "bought_again": bought_again(lives),  # though an answer was committed
        "without_cause": without_cause(lives),  # asked again without having been in flight
        "kills_that_cost_more": sum(asked > flying for flying, asked in zip(in_flight, again, strict=True)),
        "spend_usd": ended.spend_usd,  # by the ledger
        "billed_usd": billed(killed),
    }


def billed(run: ChaosRun) -> Decimal:
    """The judge's bill for every answer by its own log, those included that never arrived; US dollars."""
    answers = [one for one in run.judge.log(run.name) if one.answered]
    read, written = sum(one.prompt_tokens for one in answers), sum(one.completion_tokens for one in answers)
    return (read * Decimal(PRICE["input"]) + written * Decimal(PRICE["output"])) / Decimal(1_000_000)


def bars(found: Sequence[Sequence[Outcome]]) -> list[Row]:
    """One row per bar; one value per chaos run."""
    kills = sum(len(one["kills"]) for outcomes in found for one in outcomes)

    named = f"{kills} random SIGKILLs over laptop runs"

    def row(claim: str, key: str, unit: str) -> Row:
        values = tuple(float(sum(one[key] for one in outcomes)) for outcomes in found)
        return Row(f"{named}: {claim}", values, unit, at_most=0)

    covered = tuple(min(float(one["spend_usd"] / one["billed_usd"]) for one in outcomes) for outcomes in found)
    return [
        row("runs that end otherwise than uninterrupted", "unequal", "runs"),
        row("answered calls asked again", "bought_again", "calls"),
        row("calls asked again that were not in flight", "without_cause", "calls"),
        row("kills after which more was asked again than was in flight", "kills_that_cost_more", "kills"),
        Row(f"{named}: spend in the ledger over what was asked for", covered, at_least=1),
    ]


def as_text(one: Outcome) -> str:
    """A run, for people."""
    differs = "weights, " * (len(set(one["weights_sha256"])) > 1) + ", ".join(one["differing_tables"])
    counts = ("requests", "attempts", "in_flight", "asked_again", "bought_again", "without_cause")
    counted = ", ".join(f"{key.replace('_', ' ')} {one[key]}" for key in counts)
    end = f"OTHERWISE: {differs}" if one["unequal"] else "as if alone"
    return (
        f"seed {one['seed']}: {len(one['kills'])} kills in {one['seconds'] / 60:.1f} minutes, ends {end}; {counted}; "
        f"billed ${one['billed_usd']:.4f}, in the ledger ${one['spend_usd']:.4f}"
    )


@click.command()
@click.option("--kills", default=KILLS, show_default=True, type=click.IntRange(min=1))
@click.option("--first-seed", default=0, show_default=True, help="Seed of the first run; the next ones follow.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep homes and logs in this folder.")
def main(kills: int, first_seed: int, folder: Path | None) -> None:
    """Kill laptop runs at random moments and compare how they end; 1 when a bar was missed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a terminated chaos leaves no run behind
    outcomes = chaos(kills, first_seed, folder)
    phases = dict(Counter(kill["phase"] for one in outcomes for kill in one["kills"]).most_common())
    found = bars([outcomes])
    record = {"kills": sum(phases.values()), "phases": phases, **measuring.provenance()}
    record |= {"bars": [row.record() for row in found], "runs": outcomes}
    PATH.write_text(json.dumps(record, indent=1, default=str) + "\n")
    click.echo("\n".join([*map(as_text, outcomes), *map(str, found)]))
    click.echo("Kills by phase: " + ", ".join(f"{phase} {count}" for phase, count in phases.items()))
    sys.exit(int(any(row.missed for row in found)))


if __name__ == "__main__":
    main()
