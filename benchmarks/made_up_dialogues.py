"""Preference pairs in HH-RLHF's form and the hub's layout: as many, as long and as compressible as the real ones.

Sizes of subsets are in proportion to the paper's Table 6; numbers of exchanges, lengths and paragraphs without a name
follow a sample of the real files. Each kind of pair that a rule drops occurs. The words are drawn: this is text to be
filtered, not read. Equal seeds give equal files.
"""

import gzip
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from cyclealign.data.hh_rlhf import TABLE_6

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

Row = dict[str, str]


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

    def rows(self, name: str, count: int) -> Iterator[Row]:
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


def pair(prompt: str, first: str, second: str) -> Row:
    """The row of a prompt and its two replies."""
    return {"chosen": f"{prompt}\n\nAssistant: {first}", "rejected": f"{prompt}\n\nAssistant: {second}"}


FAULTS: Mapping[str, Callable[[str, str, str], Row]] = {
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
