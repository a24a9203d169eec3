"""A whole round against the sum of its bare parts: what the application adds to sampling, scoring and training.

Both sides do the same arithmetic on an 8-layer model, one prompt at a time as in the paper, in segments of ten rounds
that alternate (`benchmarks.round_sides`). The whole has the ledger, the question to a judge that answers at once, the
progress and the Prefect task run of the segment; a real segment has 25 rounds, so the task's share is overstated. Start
and checkpoints are left out. A process of its own does it, with a home and a Prefect server of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from statistics import median

from benchmarks.prefect_share import ROOT
from benchmarks.ranking_steps import Sizes
from benchmarks.rows import Row, at_most
from cyclealign.errors import CycleAlignError

REPEATS = 3
STEPS = 10
"""Rounds of one side in a repeat."""


def rows(repeats: int = REPEATS) -> list[Row]:
    """How many times as long as its parts a round takes."""
    sizes = Sizes()
    return [row_of(in_fresh_process(sizes, repeats, STEPS), sizes)]


def row_of(pairs: list[tuple[float, float]], sizes: Sizes, steps: int = STEPS) -> Row:
    """The row of these pairs of seconds (the whole, its parts), of so many rounds each."""
    ratios = tuple(whole / parts for whole, parts in pairs)
    whole, parts = (median(side) / steps for side in zip(*pairs, strict=True))
    note = (
        f"{whole:.2f} s against {parts:.2f} s; {sizes.prompt} + 3·{sizes.response} tokens, {sizes.layers} layers · "
        f"{sizes.width}, {os.cpu_count()} CPUs, the same tokens and weights"
    )
    return Row("a whole round against its bare parts", at_most(1.05), ratios, note=note)


def in_fresh_process(sizes: Sizes, repeats: int, steps: int) -> list[tuple[float, float]]:
    """The pairs of seconds (the whole, its parts).

    Raises:
        RuntimeError: it did not end well, for example because the sides did different things.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked = json.dumps({"folder": folder, "sizes": asdict(sizes), "repeats": repeats, "steps": steps})
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.whole_round", asked],
            cwd=ROOT,
            env={**os.environ, "CYCLEALIGN_HOME": folder, "PREFECT_API_URL": ""},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"The rounds ended with {done.returncode}:\n{done.stderr[:2000]}")
    return [(whole, parts) for whole, parts in json.loads(done.stdout.splitlines()[-1])]


def main(asked: str) -> None:
    """Measure in this process and print the pairs."""
    from cli.local import in_process  # noqa: PLC0415  imports Prefect

    parameters = json.loads(asked)
    sizes = Sizes(**parameters.pop("sizes"))
    try:
        print(json.dumps(in_process("benchmarks.round_sides:measured", sizes=sizes, **parameters)))
    except (CycleAlignError, RuntimeError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(sys.argv[1])
