"""The data pipeline as a plain Python loop: the peer of `benchmarks.dialogue_filter`, and the oracle of its tests.

Reads the files with the standard library, applies Open-Assistant's rule for HH-RLHF (`turns_of`, `keeps`, written from
the rule's description) and then the further ones that the application has (`sql/dialogues/macros.sql`, `decide.sql`),
and draws a stratified sample. Rows are parsed once; a hash is computed only where a prompt has more than one pair;
nothing is written.
"""

import gzip
import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from storage.sampling import allocate

SEPARATOR = "\x1f"
Turns = list[tuple[str, str]]


class Pair(NamedTuple):
    """A prompt with its two replies."""

    subset: str
    split: str
    turns: Turns
    chosen: str
    rejected: str


def turns_of(text: str) -> Turns:
    """The turns of a dialogue, (speaker, text).

    A paragraph that starts with a name is a turn, others are dropped; consecutive turns of one speaker are joined with
    a line break.
    """
    turns: list[tuple[str, list[str]]] = []
    for paragraph in text.split("\n\n"):
        for name in ("Human", "Assistant"):
            if paragraph.startswith(f"{name}:"):
                message = paragraph[len(name) + 1 :].strip()
                if turns and turns[-1][0] == name.lower():
                    turns[-1][1].append(message)
                else:
                    turns.append((name.lower(), [message]))
    return [(speaker, "\n".join(messages).strip()) for speaker, messages in turns]


def keeps(chosen: str, rejected: str) -> bool:
    """Whether a pair stays by Open-Assistant's rule alone.

    Its chosen dialogue has an Assistant turn, both have the same number of turns, and both begin with Human.
    """
    first, second = turns_of(chosen), turns_of(rejected)
    return (
        any(speaker == "assistant" for speaker, _ in first)
        and len(first) == len(second)
        and first[0][0] == second[0][0] == "human"
    )


def read(folder: Path) -> Iterator[tuple[str, str, Any, Any]]:
    """Subset, split, chosen, rejected of every row of files in the hub's layout; None for a field that is missing."""
    for path in sorted(folder.glob("*/*.jsonl.gz")):
        subset, split = path.parent.name, path.name.partition(".")[0]
        with gzip.open(path, "rb") as file:
            for line in file:
                row = json.loads(line)
                yield subset, split, row.get("chosen"), row.get("rejected")


def filtered(folder: Path) -> dict[str, dict[str, Pair]]:
    """By split and the prompt's text, the pairs of a folder in the hub's layout that stay."""
    kept: dict[str, dict[str, Pair]] = {"train": {}, "test": {}}
    test_prompts: set[str] = set()
    for pair in faultless(read(folder)):
        prompt = rendered(pair.turns)
        if pair.split == "test":
            test_prompts.add(prompt)
        if not pair.chosen or not pair.rejected or pair.chosen == pair.rejected:
            continue
        known = kept[pair.split].get(prompt)
        if known is None or place(pair, prompt) < place(known, prompt):
            kept[pair.split][prompt] = pair
    for prompt in test_prompts:
        kept["train"].pop(prompt, None)
    return kept


def faultless(rows: Iterable[tuple[str, str, Any, Any]]) -> Iterator[Pair]:
    """Rows of two dialogues that are one prompt with two replies."""
    for subset, split, chosen, rejected in rows:
        if not isinstance(chosen, str) or not isinstance(rejected, str):
            continue
        first = turns_of(chosen)
        if len(first) < 2 or first[0][0] != "human" or first[-1][0] != "assistant":
            continue
        second = turns_of(rejected)
        if len(second) == len(first) and second[:-1] == first[:-1] and second[-1][0] == "assistant":
            yield Pair(subset, split, first[:-1], first[-1][1], second[-1][1])


def rendered(turns: Turns) -> str:
    """The prompt's plain text."""
    return "\n\n".join([*(f"{speaker.capitalize()}: {text}" for speaker, text in turns), "Assistant:"])


def place(pair: Pair, prompt: str) -> str:
    """Which pair of a prompt stays: the one whose place is first, whatever the order of rows."""
    text = SEPARATOR.join((pair.subset, prompt, pair.chosen, pair.rejected))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def stratified(pairs: Iterable[Pair], prompts: int, seed: int) -> list[Pair]:
    """So many pairs, as many of each subset as its share of all is."""
    by_subset: Mapping[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_subset[pair.subset].append(pair)
    sizes = {subset: len(found) for subset, found in sorted(by_subset.items())}
    draw = random.Random(seed)
    quotas = allocate(sizes, prompts, "proportional")
    drawn = [pair for subset, count in quotas.items() for pair in draw.sample(by_subset[subset], count)]
    draw.shuffle(drawn)
    return drawn
