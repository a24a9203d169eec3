"""Random kills: `python -m benchmarks.chaos --kills 100`; prints a table and writes `chaos.json`.

Runs of the laptop profile are killed by SIGKILL at random moments and started again by the same command, until the
kills are used up; then each is let come to its end. Beside each, the same run (profile and seed) is left alone. The
two are held against each other: digest of the weights, every table of the cycles and of the evaluation; and the
judge's own log of what it was asked is held against the ledger as each kill left it.

The moments come from the seed. Where in the work they fall depends on how fast the machine is, so no two chaos runs
are the same; what must come out of them is.
"""

import itertools
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks import results
from benchmarks.chaos_judge import JudgeProcess
from benchmarks.chaos_outcome import Outcome, compare
from benchmarks.chaos_trainer import Kills, Trainer
from benchmarks.prefect_share import build_world
from benchmarks.rows import Row, at_least, at_most

PATH = Path(__file__).parent / "chaos.json"
KILLS = 10
MANY = 20
"""With more kills than these, two runs are killed side by side."""


class Chaos:
    """Runs of consecutive seeds that share a world, a judge and a number of kills."""

    def __init__(self, folder: Path, home: Path, judge: JudgeProcess) -> None:
        self._folder = folder
        self._world = home / "world"
        self._judge = judge
        self._trainers: list[Trainer] = []

    def outcomes(self, kills: int, first_seed: int) -> list[Outcome]:
        """Kill until the kills are used up; every run that was begun is finished."""
        left, seeds, streams = Kills(kills), itertools.count(first_seed), 1 + (kills > MANY)
        with ThreadPoolExecutor(1) as undisturbed, ThreadPoolExecutor(streams) as disturbed:

            def stream() -> list[Outcome]:
                return list(self._stream(left, seeds, undisturbed))

            try:
                futures = [disturbed.submit(stream) for _ in range(streams)]
                wait(futures, return_when=FIRST_EXCEPTION)
                return sorted((one for future in futures for one in future.result()), key=lambda one: one.seed)
            except BaseException:
                for trainer in self._trainers:
                    trainer.stop()
                raise

    def _stream(self, left: Kills, seeds: Iterator[int], undisturbed: ThreadPoolExecutor) -> Iterator[Outcome]:
        while left.any_left():
            started, seed = time.monotonic(), next(seeds)
            whole: Future[Trainer] = undisturbed.submit(self._run, seed, "whole", None)
            killed = self._run(seed, "killed", left)
            seconds = time.monotonic() - started
            if not killed.kills:  # the others took what was left
                whole.cancel()
            else:
                yield compare(killed, whole.result(), seconds)

    def _run(self, seed: int, kind: str, kills: Kills | None) -> Trainer:
        trainer = Trainer(self._folder, self._world, self._judge, seed, f"{kind}-seed{seed}")
        self._trainers.append(trainer)
        trainer.go(kills)
        return trainer


def chaos(kills: int, first_seed: int = 0, folder: Path | None = None) -> list[Outcome]:
    """The outcomes of so many kills; everything but them is thrown away unless a folder is given or a run fails."""
    place = Path(tempfile.mkdtemp(prefix="cyclealign-chaos-")) if folder is None else folder
    place.mkdir(parents=True, exist_ok=True)
    home = build_world()
    with JudgeProcess(place, home) as judge:
        outcomes = Chaos(place, home, judge).outcomes(kills, first_seed)
    if folder is None and all(one.equal for one in outcomes):
        shutil.rmtree(place)
    return outcomes


def rows(repeats: int = 1) -> list[Row]:
    """The bars of ten random kills; each repeat begins with another seed."""
    found = [chaos(KILLS, first_seed=repeat) for repeat in range(repeats)]
    return bars(found)


def bars(found: Sequence[Sequence[Outcome]]) -> list[Row]:
    """One row per bar; one value per chaos run."""
    kills = sum(len(one.kills) for outcomes in found for one in outcomes)
    named = f"{kills} random SIGKILLs over laptop runs"

    def total(name: str) -> tuple[float, ...]:
        return tuple(float(sum(getattr(one, name) for one in outcomes)) for outcomes in found)

    unequal = tuple(float(sum(not one.equal for one in outcomes)) for outcomes in found)
    covered = tuple(min(float(one.spend_usd / one.billed_usd) for one in outcomes) for outcomes in found)
    return [
        Row(f"{named}: runs that end otherwise than uninterrupted", at_most(0), unequal, "runs"),
        Row(f"{named}: answered calls asked again", at_most(0), total("answered_calls_asked_again"), "calls"),
        Row(
            f"{named}: calls asked again that were not in flight",
            at_most(0),
            total("asked_again_without_being_in_flight"),
            "calls",
        ),
        Row(
            f"{named}: kills after which more was asked again than was in flight",
            at_most(0),
            total("kills_that_cost_more"),
            "kills",
        ),
        Row(f"{named}: spend in the ledger over what was asked for", at_least(1), covered),
    ]


def table(outcomes: Sequence[Outcome]) -> Table:
    """One line per run."""
    shown = Table(title="Random kills")
    for heading in (
        "seed", "kills", "same weights", "same tables", "requests", "attempts", "in flight", "asked again",
        "bought again", "billed", "ledger", "minutes",
    ):  # fmt: skip
        shown.add_column(heading, justify="right")
    for one in outcomes:
        shown.add_row(
            str(one.seed),
            str(len(one.kills)),
            "yes" if one.weights_sha256 == one.weights_sha256_of_the_whole else "NO",
            ", ".join(one.differing_tables) or "yes",
            str(one.requests),
            str(one.attempts),
            str(one.in_flight_at_kills),
            str(one.calls_asked_again),
            str(one.answered_calls_asked_again),
            f"${one.billed_usd:.4f}",
            f"${one.spend_usd:.4f}",
            f"{one.seconds / 60:.1f}",
        )
    return shown


def phases(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many kills fell into which phase."""
    return dict(Counter(kill["phase"] for one in outcomes for kill in one.kills).most_common())


def write(outcomes: Sequence[Outcome], path: Path = PATH) -> None:
    """Keep everything, with what it was measured on."""
    record = {
        "kills": sum(len(one.kills) for one in outcomes),
        "phases": phases(outcomes),
        **results.provenance(),
        "bars": [row.as_dict() for row in bars([outcomes])],
        "runs": [asdict(one) for one in outcomes],
    }
    path.write_text(json.dumps(record, indent=1, default=str) + "\n")


@click.command()
@click.option("--kills", default=KILLS, show_default=True, type=click.IntRange(min=1))
@click.option("--first-seed", default=0, show_default=True, help="Seed of the first run; the next ones follow.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep homes and logs in this folder.")
def main(kills: int, first_seed: int, folder: Path | None) -> None:
    """Kill laptop runs at random moments and compare how they end; 1 when a bar was missed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever stops this leaves no trainer behind
    outcomes = chaos(kills, first_seed, folder)
    write(outcomes)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table(outcomes))
    console.print("Kills by phase: " + ", ".join(f"{phase} {count}" for phase, count in phases(outcomes).items()))
    console.print(results.table(bars([outcomes])))
    sys.exit(int(any(row.missed for row in bars([outcomes]))))


if __name__ == "__main__":
    main()
