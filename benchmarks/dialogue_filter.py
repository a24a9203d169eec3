"""The data pipeline on 170,000 pairs against a plain Python loop: filter, deduplicate, draw a stratified sample.

Ours is what a run does (`storage.dialogues.prepare`, `storage.sampling.draw_sample`), with Open-Assistant's rule for
paragraphs; it leaves a prepared data set and a sample in the ledger behind. The loop (`benchmarks.plain_loop`) keeps
everything in memory and writes nothing. Both read the same gzip files, each time in a fresh process
(`python -m benchmarks.dialogue_filter SIDE FOLDER`); seconds are those of the work, without imports. The kept pairs
have to be the same and the samples as large in each subset.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import made_up_dialogues, plain_loop
from benchmarks.laptop import finished
from benchmarks.measuring import Row, in_turn, peak_mib, speedups
from cyclealign.data.hh_rlhf import DialogueFolder
from cyclealign.settings import DataSettings
from storage.dialogues import prepare
from storage.ledger import Ledger
from storage.samples import read_pairs
from storage.sampling import Draw, draw_sample, load_pairs

REPEATS = 3
PROMPTS = 1000
Outcome = dict[str, Any]
"""Of one side: `seconds`, `peak_mib` (the most memory that its process held until the work was done), and `result`:
how many pairs it kept, their digest, prompts of the sample by subset."""


def rows(repeats: int = REPEATS, pairs: int = made_up_dialogues.PAIRS) -> list[Row]:
    """How many times faster ours is, and the memory that it needs."""
    with tempfile.TemporaryDirectory() as folder:
        files = made_up_dialogues.write(Path(folder), pairs)

        def side(name: str) -> Outcome:
            words = [sys.executable, "-m", "benchmarks.dialogue_filter", name, str(files)]
            outcome: Outcome = json.loads(finished(words).splitlines()[-1])
            return outcome

        done = in_turn(lambda: side("ours"), lambda: side("loop"), repeats)
    results = [one["result"] for both in done for one in both]
    if any(one != results[0] for one in results):
        raise RuntimeError(f"Found {results}, expected the same pairs and samples from both sides.")
    times = [(ours["seconds"], loop["seconds"]) for ours, loop in done]
    ours_s, loop_s = map(median, zip(*times, strict=True))
    note = f"{ours_s:.1f} s against {loop_s:.1f} s; {results[0][0]:,} pairs kept, {PROMPTS:,} prompts drawn; "
    note += f"{os.cpu_count()} CPUs, of which the loop uses one"
    name, memory = f"filter, dedupe and sample of {pairs:,} pairs", tuple(ours["peak_mib"] for ours, _ in done)
    return [
        Row(f"{name} against a plain Python loop", speedups(times), note=note, at_least=5.0),
        Row(f"{name}: peak memory of the process", memory, "MiB", at_most=1024.0),
    ]


def ours(folder: Path) -> Outcome:
    """The application's pipeline, on a ledger that is there."""
    with tempfile.TemporaryDirectory() as home:
        ledger = Ledger(Path(home))
        with ledger.session():
            pass
        started = time.perf_counter()
        prepared = prepare(ledger, DialogueFolder(folder), DataSettings(source="folder", paragraphs="drop"))
        sample = draw_sample(ledger, prepared, Draw("training", seed=0, prompts=PROMPTS))
        spent = {"seconds": time.perf_counter() - started, "peak_mib": peak_mib()}
        stored = load_pairs(prepared.folder, "train") + load_pairs(prepared.folder, "test")
        kept = [
            plain_loop.Pair(
                p.subset, p.split, [(turn.speaker, turn.text) for turn in p.turns], pair.chosen, pair.rejected
            )
            for pair in stored
            for p in (pair.prompt,)
        ]
        drawn = Counter(pair.prompt.subset for pair in read_pairs(ledger, sample))
        ledger.close()
    return {**spent, "result": [len(kept), digest(kept), drawn]}


def loop(folder: Path) -> Outcome:
    """The same as a loop."""
    started = time.perf_counter()
    by_split = plain_loop.filtered(folder)
    sample = plain_loop.stratified(by_split["train"].values(), PROMPTS, seed=0)
    spent = {"seconds": time.perf_counter() - started, "peak_mib": peak_mib()}
    kept = [pair for pairs in by_split.values() for pair in pairs.values()]
    return {**spent, "result": [len(kept), digest(kept), Counter(pair.subset for pair in sample)]}


def digest(pairs: Iterable[tuple[object, ...]]) -> str:
    """Equal for the same pairs in any order."""
    each = sorted(hashlib.sha256(json.dumps(pair).encode()).hexdigest() for pair in pairs)
    return hashlib.sha256("".join(each).encode()).hexdigest()[:16]


if __name__ == "__main__":
    print(json.dumps({"ours": ours, "loop": loop}[sys.argv[1]](Path(sys.argv[2]))))
