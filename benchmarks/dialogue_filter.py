"""The data pipeline on 170,000 pairs against a plain Python loop: filter, deduplicate, draw a stratified sample.

Ours is what a run does (`storage.dialogues.prepare`, `storage.sampling.draw_sample`), with Open-Assistant's rule for
paragraphs; it leaves a prepared data set and a sample in the ledger behind. The loop (`benchmarks.plain_loop`) keeps
everything in memory and writes nothing. Both read the same gzip files, each time in a fresh process
(`python -m benchmarks.dialogue_filter SIDE FOLDER`); seconds are those of the work, without imports. The kept pairs
have to be the same and the samples as large in each subset.

The pairs are made up: as many, as long and as compressible as HH-RLHF's. Sizes of subsets are in proportion to the
paper's Table 6; numbers of exchanges, lengths and paragraphs without a name follow a sample of the real files. Each
kind of pair that a rule drops occurs. Equal seeds give equal files.
"""

import gzip
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import plain_loop
from benchmarks.laptop import finished
from benchmarks.measuring import Row, in_turn, peak_mib, speedups
from cyclealign.data.hh_rlhf import TABLE_6, DialogueFolder
from cyclealign.settings import DataSettings
from storage.dialogues import prepare
from storage.ledger import Ledger
from storage.samples import read_pairs
from storage.sampling import Draw, draw_sample, load_pairs

REPEATS = 3
PROMPTS = 1000
PAIRS = 170_000
SENTENCES = {"harmless-base": 2, "helpful-base": 3, "helpful-online": 9, "helpful-rejection-sampled": 4}
"""Of a reply by subset, mean; a sentence has some 60 characters."""
EXCHANGES = tuple(accumulate((0.30, 0.27, 0.25, 0.14, 0.03, 0.01)))
"""Cumulated shares of dialogues with one, two, … exchanges."""
UNNAMED, SPACED = 0.08, 0.02
"""Shares of replies with a second paragraph, which no name begins, and with a space at the end."""
FAULTY = 0.08
"""Share of pairs with a fault of their own."""
REPEATED, REMEMBERED = 0.06, 0.1
"""Shares of pairs with a prompt that was there before, in any file, and of prompts that are kept for that."""
LETTERS = "eeeettaaooiinnsshhrrddllccuummwwffggyyppbbvvkk"
ENDS = (".", ".", ".", "?", "!", ", it’s “so”.")
Outcome = dict[str, Any]
"""Of one side: `seconds`, `peak_mib` (the most memory that its process held until the work was done), and `result`:
how many pairs it kept, their digest, prompts of the sample by subset."""


def rows(repeats: int = REPEATS, pairs: int = PAIRS) -> list[Row]:
    """How many times faster ours is, and the memory that it needs."""
    with tempfile.TemporaryDirectory() as folder:
        files = write(Path(folder), pairs)

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


def write(folder: Path, pairs: int = PAIRS, seed: int = 0) -> Path:
    """About so many pairs as files `<subset>/<split>.jsonl.gz` of the folder, which is returned."""
    dialogues, total = Dialogues(seed), sum(TABLE_6.values())
    for name, size in TABLE_6.items():
        write_files(folder, {name: list(dialogues.rows(name, round(size * pairs / total)))})
    return folder


def write_files(folder: Path, files: Mapping[str, Sequence[object]]) -> Path:
    """Write rows as `<subset>/<split>.jsonl.gz`; pairs become objects, other values stay as they are."""
    for name, rows in files.items():
        path = folder / f"{name}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt", encoding="utf-8") as file:
            for row in rows:
                value = {"chosen": row[0], "rejected": row[1]} if isinstance(row, tuple) else row
                file.write(json.dumps(value) + "\n")
    return folder


class Dialogues:
    """Draws the rows of one file after the other, from words of which few are frequent."""

    def __init__(self, seed: int) -> None:
        self._draw = draw = random.Random(seed)
        words = ["".join(draw.choices(LETTERS, k=draw.choice((2, 3, 3, 4, 5, 6, 9)))) for _ in range(8_000)]
        weights = list(accumulate(1 / (place + 3) for place in range(len(words))))
        self._sentences = [
            " ".join(draw.choices(words, cum_weights=weights, k=draw.randint(5, 18))).capitalize() + draw.choice(ENDS)
            for _ in range(60_000)
        ]
        self._remembered: list[str] = []

    def rows(self, name: str, count: int) -> Iterator[dict[str, str]]:
        """So many rows of the file `<subset>/<split>`."""
        mean = SENTENCES[name.partition("/")[0]]
        for _ in range(count):
            make = self._draw.choice(list(FAULTS.values())) if self._draw.random() < FAULTY else pair
            yield make(self._prompt(mean), self._reply(mean), self._reply(mean))

    def _prompt(self, mean: int) -> str:
        """A dialogue up to the last human turn, now and then one that was there before."""
        if self._remembered and self._draw.random() < REPEATED:
            return self._draw.choice(self._remembered)
        exchanges = self._draw.choices(range(1, 7), cum_weights=EXCHANGES)[0]
        before = [f"{self._human()}\n\nAssistant: {self._reply(mean)}" for _ in range(exchanges - 1)]
        prompt = "".join([*before, self._human()])
        if self._draw.random() < REMEMBERED:
            self._remembered.append(prompt)
        return prompt

    def _human(self) -> str:
        return f"\n\nHuman: {self._said(self._draw.choice((1, 1, 1, 2)))}"

    def _reply(self, mean: int) -> str:
        reply = self._said(self._draw.randint(1, 2 * mean - 1))
        if self._draw.random() < UNNAMED:
            reply += f"\n\n{self._said(mean)}"
        return reply + " " * (self._draw.random() < SPACED)

    def _said(self, sentences: int) -> str:
        return " ".join(self._draw.choices(self._sentences, k=sentences))


def pair(prompt: str, first: str, second: str) -> dict[str, str]:
    """The row of a prompt and its two replies."""
    return {"chosen": f"{prompt}\n\nAssistant: {first}", "rejected": f"{prompt}\n\nAssistant: {second}"}


FAULTS: Mapping[str, Callable[[str, str, str], dict[str, str]]] = {
    "broken_row": lambda prompt, first, second: {"chosen": f"{prompt}\n\nAssistant: {first}", "dismissed": second},
    "no_assistant_turn": lambda _, first, second: {"chosen": f"\n\nHuman: {first}", "rejected": f"\n\nHuman: {second}"},
    "different_turns": lambda prompt, first, second: pair(
        prompt, first, f"{second}\n\nHuman: And?\n\nAssistant: {first}"
    ),
    "not_human_first": lambda prompt, first, second: pair(f"\n\nAssistant: Hello.{prompt}", first, second),
    "ends_with_human": lambda prompt, first, second: pair(
        prompt, f"{first}\n\nHuman: Thank you.", f"{second}\n\nHuman: No."
    ),
    "prompt_differs": lambda prompt, first, second: {
        "chosen": pair(prompt, first, second)["chosen"],
        "rejected": pair(f"{prompt} So?", first, second)["rejected"],
    },
    "empty_reply": lambda prompt, first, _: pair(prompt, first, " "),
    "identical_replies": lambda prompt, first, _: pair(prompt, first, f"{first} "),
}
"""Rows that a rule drops by themselves, by its reason in `sql/dialogues/macros.sql`."""


if __name__ == "__main__":
    print(json.dumps({"ours": ours, "loop": loop}[sys.argv[1]](Path(sys.argv[2]))))
