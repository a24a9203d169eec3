"""Random kills: `python -m benchmarks.chaos --kills 100`; prints how runs end and writes `chaos.json`.

Runs of the laptop profile are killed by SIGKILL at random moments and started again by the same command, until the
kills are used up; then each is left to come to its end. After each, the same run (profile and seed) is left alone. The
two are compared: digest of the weights, every table of the cycles and of the evaluation; and the judge's own log of
questions is compared with the ledger as each kill left it.

The moments come from the seed. Where in the work they fall depends on how fast the machine is, so no two chaos runs
are the same; what must come out of them is.
"""

import asyncio
import itertools
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from benchmarks import measuring
from benchmarks.chaos_run import PRICE, ChaosRun, Kills
from benchmarks.judge import JudgeProcess
from benchmarks.laptop import build_world
from benchmarks.measuring import Row
from storage import runs
from storage.ledger import Ledger
from tests.flows.ended_runs import EndedRun, differing_rows
from tests.flows.lives import again_after, asked_again, bought_again, lost, without_cause

PATH = Path(__file__).parent / "chaos.json"
KILLS = 10
MANY = 20
"""With more kills than these, two runs go side by side."""
Outcome = dict[str, Any]
"""One run that was killed, beside the one that was not: a record of `chaos.json`, see `compare`."""


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
