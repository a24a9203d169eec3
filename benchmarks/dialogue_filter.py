"""The data pipeline on 170,000 pairs against a plain Python loop: filter, deduplicate, draw a stratified sample.

Ours is what a run does (`storage.dialogues.prepare`, `storage.sampling.draw_sample`), with Open-Assistant's rule for
paragraphs; it leaves a prepared data set and a sample in the ledger behind. The loop (`benchmarks.plain_loop`) keeps
everything in memory and writes nothing. Both read the same gzip files, each time in a fresh process
(`python -m benchmarks.dialogue_filter SIDE FOLDER`); seconds are those of the work, without imports. The kept pairs
have to be the same and the samples as large in each subset, or there is nothing to compare.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import made_up_dialogues, plain_loop
from benchmarks.measuring import peak_mib, side_by_side
from benchmarks.open_assistant import Turns
from benchmarks.prefect_share import ROOT
from benchmarks.rows import Row, at_least, at_most
from cyclealign.data.hh_rlhf import DialogueFolder
from cyclealign.records import PreferencePair
from cyclealign.settings import DataSettings
from storage.dialogues import prepare
from storage.ledger import Ledger
from storage.samples import read_pairs
from storage.sampling import Draw, draw_sample, load_pairs

REPEATS = 3
PROMPTS = 1000


@dataclass(frozen=True)
class Outcome:
    """What one side did."""

    seconds: float
    peak_mib: float
    """The most memory that its process held until the work was done."""
    kept: int
    digest: str
    """Of the kept pairs, whatever their order."""
    drawn: Mapping[str, int]
    """Prompts of the sample, by subset."""


def rows(repeats: int = REPEATS) -> list[Row]:
    """How many times faster ours is, and the memory that it needs."""
    done: dict[str, list[Outcome]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        files = made_up_dialogues.write(Path(folder))

        def timed(side: str) -> float:
            done[side].append(in_fresh_process(side, files))
            return done[side][-1].seconds

        side_by_side(partial(timed, "ours"), partial(timed, "loop"), repeats)
    return rows_of(done["ours"], done["loop"])


def rows_of(own: list[Outcome], loops: list[Outcome]) -> list[Row]:
    """The rows of these outcomes, repeat by repeat.

    Raises:
        RuntimeError: the sides kept other pairs, or drew other numbers of prompts.
    """
    found = {(one.kept, one.digest, tuple(sorted(one.drawn.items()))) for one in (*own, *loops)}
    if len(found) != 1:
        raise RuntimeError(f"Found {sorted(found)}, expected the same pairs and samples from both sides.")
    ratios = tuple(loop.seconds / ours.seconds for ours, loop in zip(own, loops, strict=True))
    ours_s, loop_s = (median(one.seconds for one in side) for side in (own, loops))
    note = f"{ours_s:.1f} s against {loop_s:.1f} s; {own[0].kept:,} pairs kept, {PROMPTS:,} prompts drawn; "
    note += f"{os.cpu_count()} CPUs, of which the loop uses one"
    name = f"filter, dedupe and sample of {made_up_dialogues.PAIRS:,} pairs"
    memory = tuple(one.peak_mib for one in own)
    return [
        Row(f"{name} against a plain Python loop", at_least(5.0), ratios, note=note),
        Row(f"{name}: peak memory of the process", at_most(1024.0), memory, "MiB"),
    ]


def in_fresh_process(side: str, folder: Path) -> Outcome:
    """What the side made of the files in the folder.

    Raises:
        RuntimeError: it did not end well.
    """
    command = [sys.executable, "-m", "benchmarks.dialogue_filter", side, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"The side {side} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def ours(folder: Path, prompts: int = PROMPTS) -> Outcome:
    """The application's pipeline, on a ledger that is there."""
    with tempfile.TemporaryDirectory() as home:
        ledger = Ledger(Path(home))
        with ledger.session():
            pass
        started = time.perf_counter()
        prepared = prepare(ledger, DialogueFolder(folder), DataSettings(source="folder", paragraphs="drop"))
        sample = draw_sample(ledger, prepared, Draw("training", seed=0, prompts=prompts))
        seconds, peak = time.perf_counter() - started, peak_mib()
        stored = load_pairs(prepared.folder, "train") + load_pairs(prepared.folder, "test")
        kept = [plain(pair) for pair in stored]
        drawn = dict(Counter(pair.prompt.subset for pair in read_pairs(ledger, sample)))
        ledger.close()
    return Outcome(seconds, peak, len(kept), digest(kept), drawn)


def loop(folder: Path, prompts: int = PROMPTS) -> Outcome:
    """The same as a loop."""
    started = time.perf_counter()
    by_split = plain_loop.filtered(folder)
    sample = plain_loop.stratified(by_split["train"].values(), prompts, seed=0)
    seconds, peak = time.perf_counter() - started, peak_mib()
    kept = [pair for pairs in by_split.values() for pair in pairs.values()]
    return Outcome(seconds, peak, len(kept), digest(kept), dict(Counter(pair.subset for pair in sample)))


SIDES: Mapping[str, Callable[[Path], Outcome]] = {"ours": ours, "loop": loop}


def plain(pair: PreferencePair) -> plain_loop.Pair:
    """The pair in the loop's form."""
    turns: Turns = [(turn.speaker, turn.text) for turn in pair.prompt.turns]
    return plain_loop.Pair(pair.prompt.subset, pair.prompt.split, turns, pair.chosen, pair.rejected)


def digest(pairs: Iterable[plain_loop.Pair]) -> str:
    """Equal for the same pairs in any order."""
    each = sorted(hashlib.sha256(json.dumps(pair).encode()).hexdigest() for pair in pairs)
    return hashlib.sha256("".join(each).encode()).hexdigest()[:16]


if __name__ == "__main__":
    print(json.dumps(asdict(SIDES[sys.argv[1]](Path(sys.argv[2])))))
