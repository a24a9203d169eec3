"""The journal and its postings: what bookkeeping costs, and that kills and full disks lose nothing.

`rows`: the time that a round of one prompt spends in the ledger (all of its facts, the calls and their lookups
included), against `write` and `fdatasync` of the same lines in this process, right after each round.

`python -m benchmarks.journal --kills N`: two writers and two posters beside a reader are killed by SIGKILL at random
moments. No acknowledged fact may be missing, no transaction halved, no count may fall, every reading has to succeed,
and in the end the ledger holds everything and no journal is left over. Then a disk that fills in appends and in
postings: each fails with its message and leaves nothing half done. Exit code 1 when a claim does not hold.
"""

import itertools
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import mean, median
from typing import Any

import click

from benchmarks.measuring import Row
from cyclealign.errors import StorageFull
from storage.journal import journals
from storage.ledger import Ledger, Session
from storage.rounds import OptimizerStep
from tests.full_disk import files_up_to

REPEATS = 10
ROUNDS = 20
"""Per repeat."""
SHAPE: dict[str, Any] = {"vocab_size": 997, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
FORKS = multiprocessing.get_context("forkserver")
LONGEST_S = 0.25
"""Between two kills."""
COUNTS = "select run_name, count(*) as facts, count(distinct optimizer_step) as steps from optimizer_steps group by all"


class TimedLedger(Ledger):
    """A ledger that knows how long it was used."""

    seconds = 0.0

    def record(self, *facts: object) -> None:
        """As a ledger does."""
        with self._timed():
            super().record(*facts)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """As a ledger does."""
        with self._timed(), super().session() as session:
            yield session

    def seen_elsewhere(self) -> tuple[object, ...]:
        """As a ledger does."""
        with self._timed():
            return super().seen_elsewhere()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started


def rows(repeats: int = REPEATS, rounds: int = ROUNDS) -> list[Row]:
    """How many times as long as writing its bytes the bookkeeping of a round takes, and how long that is."""
    from benchmarks import made_up, whole_round  # noqa: PLC0415  the processes that are killed need no torch

    pairs, lines = [], Counter[str]()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "peer").open("ab", buffering=0) as peer:
        home, shape = Path(folder), {**made_up.SMALL, **SHAPE}
        count = (repeats + 1) * rounds
        settings = whole_round.settings_for(made_up.save(home / "model", shape), count, rounds)
        prompts = [made_up.prompt(shape["vocab_size"], whole_round.PROMPT_TOKENS, number) for number in range(count)]
        ledger, read = TimedLedger(home), 0
        with whole_round.cycle_of(ledger, settings, prompts) as cycle:
            for step in range(count):
                before, read = ledger.seconds, journals(ledger.journals)[0].stat().st_size
                whole_round.run_rounds(cycle, [step])
                ours = ledger.seconds - before
                text = journals(ledger.journals)[0].read_bytes()[read:].splitlines(keepends=True)
                pairs.append((ours, written(peer.fileno(), text)))
                lines.update(transactions=len(text), bytes=sum(map(len, text)))
    blocks = [pairs[start : start + rounds] for start in range(rounds, count, rounds)]  # the first warms up
    ratios = tuple(sum(ours for ours, _ in block) / sum(theirs for _, theirs in block) for block in blocks)
    times = tuple(1000 * median(ours for ours, _ in block) for block in blocks)
    peer_ms = 1000 * median(mean(theirs for _, theirs in block) for block in blocks)
    size = f"{lines['transactions'] / count:.0f} transactions, {lines['bytes'] / count:,.0f} bytes"
    name = "bookkeeping of a round at W = 1"
    return [
        Row(f"{name} against write and fdatasync of its bytes", ratios, note=f"{peer_ms:.2f} ms; {size}", at_most=3.0),
        Row(name, times, "ms", size, at_most=5.0),
    ]


def written(descriptor: int, lines: list[bytes]) -> float:
    """Seconds to append these lines, each flushed to the disk."""
    started = time.perf_counter()
    for line in lines:
        os.write(descriptor, line)
        os.fdatasync(descriptor)
    return time.perf_counter() - started


def facts(name: str, number: int) -> tuple[OptimizerStep, OptimizerStep]:
    """One transaction of a writer: two facts of different lengths."""
    return OptimizerStep(name, 2 * number, 1, 0.5, None, 1e-4, 0.1), OptimizerStep(
        name, 2 * number + 1, 1, 1.0, 2.0, 3, 4
    )


def write(home: Path, name: str) -> None:
    """Record and acknowledge until killed: one byte in a file of its own per transaction."""
    ledger = Ledger(home)
    with (home / f"{name}.acknowledged").open("ab", buffering=0) as acknowledged:
        for number in itertools.count():
            ledger.record(*facts(name, number))
            acknowledged.write(b".")
            if number % 100 == 99:
                time.sleep(0.01)


def post(home: Path, _name: str) -> None:
    """Post until killed."""
    while True:
        Ledger(home).post()
        time.sleep(0.02)


def killed(home: Path, kills: int, seed: int) -> Iterator[str]:
    """Kill writers and posters; what went wrong, one line each."""
    draw, names, ledger, seen = random.Random(seed), itertools.count(), Ledger(home), 0
    works: list[Callable[[Path, str], None]] = [write, write, post, post]

    def start(work: Callable[[Path, str], None]) -> BaseProcess:
        process = FORKS.Process(target=work, args=(home, f"{work.__name__}-{next(names)}"))
        process.start()
        return process

    processes = [start(work) for work in works]
    try:
        while sum(map(bool, acknowledgements(home).values())) < works.count(write):
            time.sleep(0.01)
        for _ in range(kills):
            time.sleep(draw.random() * LONGEST_S)
            place = draw.randrange(len(works))
            stop(processes[place])
            processes[place] = start(works[place])
            before, (seen, problems) = seen, checked(ledger, acknowledgements(home))
            yield from problems
            if seen < before:
                yield f"{seen:,} facts, after there were {before:,}"
    finally:
        for process in processes:
            stop(process)
    ledger.close()
    seen, problems = checked(ledger, acknowledgements(home))
    yield from problems
    if left := journals(ledger.journals):
        yield f"journals left over: {', '.join(path.name for path in left)}"
    click.echo(f"{kills:,} kills, {seen:,} facts of {len(acknowledgements(home))} writers")


def stop(process: BaseProcess) -> None:
    """SIGKILL."""
    process.kill()
    process.join()


def acknowledgements(home: Path) -> Mapping[str, int]:
    """Acknowledged transactions by writer."""
    return {path.stem: path.stat().st_size for path in home.glob("*.acknowledged")}


def checked(ledger: Ledger, acknowledged: Mapping[str, int]) -> tuple[int, list[str]]:
    """How many facts there are, and how they differ from what was acknowledged."""
    found = {str(name): (facts, steps) for name, facts, steps in ledger.query(COUNTS).itertuples(index=False)}
    problems = [
        f"{name}: {facts} facts of {steps} steps, {2 * acknowledged.get(name, 0)} acknowledged"
        for name, (facts, steps) in found.items()
        if facts != steps or facts % 2 or facts < 2 * acknowledged.get(name, 0)
    ]
    problems += [f"{name}: nothing of {count}" for name, count in acknowledged.items() if count and name not in found]
    return sum(facts for facts, _ in found.values()), problems


def full_disk(home: Path, seed: int, times: int = 50) -> Iterator[str]:
    """Let files stop growing at random places in appends and postings; what went wrong, one line each."""
    draw, ledger = random.Random(seed), Ledger(home)
    for number in range(times):
        ledger.record(*facts("full", 2 * number))
        [journal] = journals(ledger.journals)
        room = journal.stat().st_size + draw.randrange(200)
        if not refused(room, lambda n=number: ledger.record(*facts("full", 2 * n + 1))):  # type: ignore[misc]
            yield f"{room} bytes were enough for a longer journal"
        if not refused(draw.randrange(12_000), ledger.post):
            yield "a few bytes were enough for a ledger"
        yield from checked(ledger, {"full": number + 1})[1]
        if number % 10 == 9:
            ledger.post()
    ledger.close()
    seen, problems = checked(ledger, {"full": times})
    yield from problems
    if seen != 2 * times:
        yield f"{seen} facts on a full disk, {2 * times} acknowledged"
    click.echo(f"{times} full disks in an append and in a posting each, {seen} facts")


def refused(size: int, work: Callable[[], Any]) -> bool:
    """Whether the work ends with the error of a full disk when no file may grow beyond this size."""
    try:
        with files_up_to(size):
            work()
    except StorageFull:
        return True
    return False


@click.command()
@click.option("--kills", default=100, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, help="Of the moments and places.")
def main(kills: int, seed: int) -> None:
    """Kill writers and posters, fill the disk, and count what is missing, doubled or left over."""
    FORKS.set_forkserver_preload(["storage.ledger", "storage.rounds"])
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        problems = 0
        for problem in itertools.chain(killed(Path(first), kills, seed), full_disk(Path(second), seed)):
            click.echo(f"WRONG: {problem}")
            problems += 1
    sys.exit(int(problems > 0))


if __name__ == "__main__":
    main()
