"""Preference pairs in HH-RLHF's form and the hub's layout: as many, as long and as compressible as the real ones.

Sizes of subsets are in proportion to the paper's Table 6; numbers of exchanges, lengths and paragraphs without a name
follow what a sample of the real files has. Of each kind of pair that a rule drops there are some. The words are drawn:
this is text to be filtered, not read. Equal seeds give equal files.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from benchmarks.open_assistant import write_files
from cyclealign.data.hh_rlhf import TABLE_6

PAIRS = 170_000
SENTENCES: Mapping[str, int] = {
    "harmless-base": 2,
    "helpful-base": 3,
    "helpful-online": 9,
    "helpful-rejection-sampled": 4,
}
"""Of a reply by subset, mean; a sentence has some 60 characters."""
EXCHANGES = tuple(accumulate((0.30, 0.27, 0.25, 0.14, 0.03, 0.01)))
"""Cumulated shares of dialogues with one, two, … exchanges."""
UNNAMED = 0.08
"""Share of replies with a second paragraph, which no name begins."""
SPACED = 0.02
"""Share of replies with a space at the end."""
FAULTY = 0.08
"""Share of pairs with a fault of their own."""
REPEATED, REMEMBERED = 0.06, 0.1
"""Shares of pairs with a prompt that was there before, in any file, and of prompts that are kept for that."""
LETTERS = "eeeettaaooiinnsshhrrddllccuummwwffggyyppbbvvkk"
ENDS = (".", ".", ".", "?", "!", ", it’s “so”.")

Row = dict[str, str]


def write(folder: Path, pairs: int = PAIRS, seed: int = 0) -> Path:
    """About so many pairs as files `<subset>/<split>.jsonl.gz` of the folder, which is returned."""
    dialogues, total = Dialogues.seeded(seed), sum(TABLE_6.values())
    for name, size in TABLE_6.items():
        write_files(folder, {name: list(dialogues.rows(name, round(size * pairs / total)))})
    return folder


@dataclass(frozen=True)
class Dialogues:
    """Draws the rows of one file after the other."""

    draw: random.Random
    sentences: tuple[str, ...]
    remembered: list[str] = field(default_factory=list)
    """Prompts that may come again."""

    @classmethod
    def seeded(cls, seed: int) -> "Dialogues":
        """With sentences of its own, from words of which few are frequent."""
        draw = random.Random(seed)
        words = ["".join(draw.choices(LETTERS, k=draw.choice((2, 3, 3, 4, 5, 6, 9)))) for _ in range(8_000)]
        weights = list(accumulate(1 / (place + 3) for place in range(len(words))))

        def sentence() -> str:
            text = " ".join(draw.choices(words, cum_weights=weights, k=draw.randint(5, 18)))
            return text.capitalize() + draw.choice(ENDS)

        return cls(draw, tuple(sentence() for _ in range(60_000)))

    def rows(self, name: str, count: int) -> Iterator[Row]:
        """So many rows of the file `<subset>/<split>`."""
        mean = SENTENCES[name.partition("/")[0]]
        for _ in range(count):
            make = self.draw.choice(FAULTS) if self.draw.random() < FAULTY else pair
            yield make(self._prompt(mean), self._reply(mean), self._reply(mean))

    def _prompt(self, mean: int) -> str:
        """A dialogue up to the last human turn, now and then one that was there before."""
        if self.remembered and self.draw.random() < REPEATED:
            return self.draw.choice(self.remembered)
        exchanges = self.draw.choices(range(1, 7), cum_weights=EXCHANGES)[0]
        before = [f"{self._human()}\n\nAssistant: {self._reply(mean)}" for _ in range(exchanges - 1)]
        prompt = "".join([*before, self._human()])
        if self.draw.random() < REMEMBERED:
            self.remembered.append(prompt)
        return prompt

    def _human(self) -> str:
        return f"\n\nHuman: {self._said(self.draw.choice((1, 1, 1, 2)))}"

    def _reply(self, mean: int) -> str:
        reply = self._said(self.draw.randint(1, 2 * mean - 1))
        if self.draw.random() < UNNAMED:
            reply += f"\n\n{self._said(mean)}"
        return reply + " " * (self.draw.random() < SPACED)

    def _said(self, sentences: int) -> str:
        return " ".join(self.draw.choices(self.sentences, k=sentences))


def pair(prompt: str, first: str, second: str) -> Row:
    """The row of a prompt and its two replies."""
    return {"chosen": f"{prompt}\n\nAssistant: {first}", "rejected": f"{prompt}\n\nAssistant: {second}"}


def without_text(prompt: str, first: str, second: str) -> Row:
    """`broken_row`."""
    return {"chosen": f"{prompt}\n\nAssistant: {first}", "dismissed": second}


def without_reply(_: str, first: str, second: str) -> Row:
    """`no_assistant_turn`."""
    return {"chosen": f"\n\nHuman: {first}", "rejected": f"\n\nHuman: {second}"}


def of_other_length(prompt: str, first: str, second: str) -> Row:
    """`different_turns`."""
    return pair(prompt, first, f"{second}\n\nHuman: And?\n\nAssistant: {first}")


def begun_by_assistant(prompt: str, first: str, second: str) -> Row:
    """`not_human_first`."""
    return pair(f"\n\nAssistant: Hello.{prompt}", first, second)


def ended_by_human(prompt: str, first: str, second: str) -> Row:
    """`ends_with_human`."""
    return pair(prompt, f"{first}\n\nHuman: Thank you.", f"{second}\n\nHuman: No.")


def of_another_prompt(prompt: str, first: str, second: str) -> Row:
    """`prompt_differs`."""
    return {**pair(prompt, first, second), "rejected": pair(f"{prompt} So?", first, second)["rejected"]}


def without_words(prompt: str, first: str, _: str) -> Row:
    """`empty_reply`."""
    return pair(prompt, first, " ")


def of_equal_replies(prompt: str, first: str, _: str) -> Row:
    """`identical_replies`."""
    return pair(prompt, first, f"{first} ")


FAULTS: tuple[Callable[[str, str, str], Row], ...] = (
    without_text,
    without_reply,
    of_other_length,
    begun_by_assistant,
    ended_by_human,
    of_another_prompt,
    without_words,
    of_equal_replies,
)
"""The pairs that a rule drops by themselves, each named after its reason in `sql/dialogues/macros.sql`."""
