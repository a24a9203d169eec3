"""A judge that takes two seconds to answer: waves of 16 with overlap against one prompt at a time.

Both sides are `cyclealign train` over HTTP against the same judge on loopback, which answers each question two seconds
after it came, as many at once as are asked. Prompts per minute are those of the cycle, from the first response sampled
to the last optimizer step; start and evaluation are left out.
"""

import tempfile
from pathlib import Path
from statistics import median

from benchmarks.chaos_judge import JudgeProcess
from benchmarks.laptop_run import RUN
from benchmarks.prefect_share import build_world
from benchmarks.rows import Row, at_least
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


def rows(repeats: int = REPEATS) -> list[Row]:
    """How many times more prompts per minute."""
    world = build_world()
    with tempfile.TemporaryDirectory() as folder, JudgeProcess(Path(folder), world, LATENCY_S) as judge:
        pairs = [[prompts_per_minute(judge.url, world, wave) for wave in PROMPTS] for _ in range(repeats)]
    one, many = (median(side) for side in zip(*pairs, strict=True))
    note = f"{many:.0f} against {one:.0f} prompts per minute, {LATENCY_S:.0f} s latency, one round each"
    ratios = tuple(second / first for first, second in pairs)
    return [
        Row(
            f"prompts per minute with W = {WAVE} and overlap against W = 1", at_least(10.0), ratios, note=note
        )
    ]


def prompts_per_minute(url: str, world: Path, wave: int) -> float:
    """Of one run with so many prompts in a wave."""
    settings = {
        "black_box.endpoint": "api",
        "black_box.base_url": url,
        "black_box.concurrency": WAVE,
        "data.prompts": PROMPTS[wave],
        "method.rounds": 1,
        "training.wave": wave,
        "training.overlap": str(wave > 1).lower(),
        "evaluation.prompts_per_subset": 2,
    }
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder), world, settings)
        return float(answer(Path(folder), CYCLE.format(run=RUN))[0]["per_minute"].to_numpy()[0])
