"""A judge that takes two seconds to answer: waves of 16 with overlap against one prompt at a time.

Both sides are `cyclealign train` over HTTP against the same judge on loopback, which answers each question two seconds
after it came, as many at once as are asked. Prompts per minute are those of the cycle, from the first response sampled
to the last optimizer step; start and evaluation are left out. Of the runs with overlap a second row tells how much of
that time the slower side, computing or answers, does nothing (`benchmarks.idle_time`). Waves end before a
checkpoint: both sides have one every four waves of 16; with the laptop profile's, every three, that share is larger.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import idle_time
from benchmarks.chaos_judge import JudgeProcess
from benchmarks.idle_time import Sides
from benchmarks.laptop_run import RUN
from benchmarks.prefect_share import build_world
from benchmarks.rows import Row, at_least, at_most
from benchmarks.trained import train
from storage.asking import answer

REPEATS = 3
LATENCY_S = 2.0
WAVE = 16
PROMPTS = {1: 16, WAVE: 128}
"""By prompts per wave; enough that the first wave, which nothing overlaps, hardly counts."""
CYCLE = """
    select count(distinct step) / date_diff('millisecond', min(sampled_at), max(trained_at)) * 60000 as per_minute
    from rounds where run_name = '{run}'
    """


@dataclass(frozen=True)
class Cycle:
    """What is measured of the cycle of one run."""

    per_minute: float
    """Prompts."""
    sides: Sides


def rows(repeats: int = REPEATS) -> list[Row]:
    """How many times more prompts per minute, and the idle share of the slower side."""
    world = build_world()
    with tempfile.TemporaryDirectory() as folder, JudgeProcess(Path(folder), world, LATENCY_S) as judge:
        pairs = [tuple(cycle(judge.url, world, wave) for wave in PROMPTS) for _ in range(repeats)]
    return [speed_row(pairs), idle_row([many.sides for _, many in pairs])]


def speed_row(pairs: Sequence[tuple[Cycle, ...]]) -> Row:
    """Of these pairs of runs, one prompt at a time and many."""
    one, many = (median(cycle.per_minute for cycle in side) for side in zip(*pairs, strict=True))
    note = f"{many:.0f} against {one:.0f} prompts per minute, {LATENCY_S:.0f} s latency, one round each"
    ratios = tuple(second.per_minute / first.per_minute for first, second in pairs)
    name = f"prompts per minute with W = {WAVE} and overlap against W = 1"
    return Row(name, at_least(10.0), ratios, note=note)


def idle_row(cycles: Sequence[Sides]) -> Row:
    """Of the runs with overlap."""
    busy = [one.busy() for one in cycles]
    computing, answers = (median(one[side] for one in busy) for side in ("computing", "answers"))
    wall = median(end - begin for begin, end in (one.wall for one in cycles))
    note = f"of {wall:.0f} s: computing {computing:.0f} s, answers outstanding {answers:.0f} s"
    name = f"idle share of the slower side with W = {WAVE} and overlap, {LATENCY_S:.0f} s latency"
    return Row(name, at_most(0.15), tuple(one.idle_share for one in cycles), note=note)


def cycle(url: str, world: Path, wave: int) -> Cycle:
    """That of one run with so many prompts in a wave."""
    settings = {
        "black_box.endpoint": "api",
        "black_box.base_url": url,
        "data.prompts": PROMPTS[wave],
        "method.rounds": 1,
        "training.wave": wave,
        "training.overlap": str(wave > 1).lower(),
        "training.checkpoint_every": 4 * WAVE,
        "evaluation.prompts_per_subset": 2,
    }
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        train(home, world, settings)
        per_minute = answer(home, CYCLE.format(run=RUN))[0]["per_minute"].to_numpy()[0]
        return Cycle(float(per_minute), idle_time.sides(home, RUN))
