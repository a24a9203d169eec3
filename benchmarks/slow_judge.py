"""A judge that takes two seconds to answer: waves of 16 with overlap against one prompt at a time, and idle time.

Both sides are `cyclealign train` over HTTP against the same judge on loopback, which answers each question two seconds
after it came, as many at once as are asked. Prompts per minute are those of the cycle, from the first sampled response
to the last optimizer step; start and evaluation are left out. Waves end before a checkpoint: both sides have one every
four waves of 16; with the laptop profile's, every three, the idle share is larger.

Idle time, from the ledger: a cycle has two sides, computing (sampling, scoring and training, one at a time) and
outstanding answers (from sending a question to the record of its answer). With waves that overlap, the slower of the
two should always be at work: its idle share is the part of the cycle's wall time outside the union of its intervals.
"""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.judge import JudgeProcess
from benchmarks.laptop import RUN, build_world, new_home, train
from benchmarks.measuring import Row, in_turn
from storage.ledger import Ledger

REPEATS = 3
LATENCY_S = 2.0
WAVE = 16
PROMPTS = {1: 16, WAVE: 128}
"""By prompts per wave; enough that the first wave, which nothing overlaps, hardly counts."""
CYCLE = """
    select count(distinct step) / date_diff('millisecond', min(sampled_at), max(trained_at)) * 60000
    from rounds where run_name = $run
    """
COMPUTING = """
    select epoch(max(sampled_at)) - sum(sampling_seconds + scoring_seconds), epoch(max(sampled_at))
    from rounds where run_name = $run group by wave, round
    union all
    select epoch(max(trained_at)) - sum(training_seconds), epoch(max(trained_at))
    from rounds where run_name = $run and trained_at is not null group by wave, round
    """
"""Begin and end of each turn of a wave and kind of work; the seconds of a wave are shared among its rounds."""
ANSWERS = """
    select epoch(api_attempts.started_at), epoch(api_attempts.ended_at)
    from api_attempts inner join api_calls on api_attempts.call_key = api_calls.call_key
    where api_attempts.run_name = $run and api_calls.purpose = 'ranking'
    """
"""Begin and end of each sent question."""


class Cycle(NamedTuple):
    """Prompts per minute, and seconds: of the cycle, and of each side's work within it."""

    per_minute: float
    wall: float
    computing: float
    answers: float


def rows(repeats: int = REPEATS) -> list[Row]:
    """How many times more prompts per minute, and the idle share of the slower side."""
    world = build_world()
    with tempfile.TemporaryDirectory() as folder, JudgeProcess(Path(folder), world, LATENCY_S) as judge:
        pairs = in_turn(lambda: cycle(judge.url, world, WAVE), lambda: cycle(judge.url, world, 1), repeats)
    many, one = (Cycle(*map(median, zip(*side, strict=True))) for side in zip(*pairs, strict=True))
    against = f"{many.per_minute:.0f} against {one.per_minute:.0f} prompts per minute, {LATENCY_S:.0f} s latency, "
    ratios = tuple(ours.per_minute / theirs.per_minute for ours, theirs in pairs)
    idle = tuple(1 - max(ours.computing, ours.answers) / ours.wall for ours, _ in pairs)
    sides = f"of {many.wall:.0f} s: computing {many.computing:.0f} s, answers outstanding {many.answers:.0f} s"
    of = f"with W = {WAVE} and overlap"
    return [
        Row(f"prompts per minute {of} against W = 1", ratios, note=f"{against}one round each", at_least=10.0),
        Row(f"idle share of the slower side {of}, {LATENCY_S:.0f} s latency", idle, note=sides, at_most=0.15),
    ]


def cycle(url: str, world: Path, wave: int) -> Cycle:
    """The cycle of one run with so many prompts in a wave."""
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
        home = new_home(Path(folder), "home", world)
        train(home, settings)
        found = [Ledger(home).query(query, {"run": RUN}) for query in (CYCLE, COMPUTING, ANSWERS)]
    [[per_minute]], computing, answers = (frame.to_numpy().tolist() for frame in found)
    within = (min(begin for begin, _ in computing), max(end for _, end in computing))
    return Cycle(per_minute, within[1] - within[0], covered(computing, within), covered(answers, within))


def covered(intervals: Iterable[Sequence[float]], within: tuple[float, float]) -> float:
    """Seconds of the union of the intervals, as far as they lie within the given one."""
    total, reached = 0.0, within[0]
    for begin, end in sorted(map(tuple, intervals)):
        from_here = max(begin, reached)
        reached = max(reached, min(end, within[1]))
        total += max(0.0, reached - from_here)
    return total
