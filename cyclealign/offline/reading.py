"""Takes any text of the dialogue world apart into its phrases, and finds what a dialogue is about.

Works from texts alone, garbled ones included: words that belong to no phrase are counted as left over. Judges
nothing; `grader` does.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from cyclealign.errors import DataError
from cyclealign.offline import phrases, topics
from cyclealign.records import Prompt

Kind = Literal[
    "step", "way", "reason", "better", "opening", "closing", "evasion", "insult", "refusal", "compliance", "link"
]


@dataclass(frozen=True, slots=True)
class Phrase:
    """One phrase of the tables; `topic` is empty for those that fit any topic."""

    kind: Kind
    text: str
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as its phrases in order of appearance."""

    phrases: tuple[Phrase, ...]
    words: int
    left_over: int
    """Words that belong to no phrase."""

    def texts(self, kind: Kind, topic: str | None = None) -> set[str]:
        """The distinct phrases of this kind, of one topic where one is named."""
        return {found.text for found in self.phrases if found.kind == kind and topic in (None, found.topic)}

    def elsewhere(self, kind: Kind, topic: str) -> set[str]:
        """The distinct phrases of this kind that belong to other topics."""
        return {found.text for found in self.phrases if found.kind == kind and found.topic != topic}


def read(text: str) -> Reading:
    """The phrases of a text, each taken as long as possible, from left to right."""
    words = _words(text)
    found: list[Phrase] = []
    at = left_over = 0
    while at < len(words):
        length, phrase = _longest(words, at)
        if phrase is None:
            left_over += 1
        else:
            found.append(phrase)
        at += length
    return Reading(tuple(found), len(words), left_over)


def topic_of(prompt: Prompt) -> str:
    """The topic that the human side of a dialogue asks about.

    Raises:
        DataError: it is none of the world's topics.
    """
    asked = " ".join(_padded(turn.text) for turn in prompt.turns if turn.speaker == "human")
    known = [topic for topic, key in _topic_keys().items() if key in asked]
    if not known:
        raise DataError(
            f"Prompt {prompt.prompt_id} asks about no topic of the dialogue world. The world's ground truth"
            " grades only dialogues that the world generated (data.source = world)."
        )
    return max(known, key=len)


def already_said(prompt: Prompt) -> set[str]:
    """Steps that the assistant gave in its earlier turns."""
    said = (read(turn.text).texts("step") for turn in prompt.turns if turn.speaker == "assistant")
    return set().union(*said)


@cache
def steps_by_topic() -> dict[str, tuple[str, ...]]:
    """Every topic with its steps, ideas, or (misdeeds) ways."""
    ways = {topic: misdeed.ways for topic, misdeed in topics.MISDEEDS.items()}
    return {**topics.HOW_TO, **topics.IDEAS, **ways}


@cache
def _topic_keys() -> dict[str, str]:
    return {topic: _padded(topic) for topic in steps_by_topic()}


def _padded(text: str) -> str:
    """Normalised words between spaces, so that a search finds whole words only."""
    return f" {' '.join(_words(text))} "


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def _longest(words: list[str], at: int) -> tuple[int, Phrase | None]:
    for key, phrase in _phrases_by_first_word().get(words[at], ()):
        if tuple(words[at : at + len(key)]) == key:
            return len(key), phrase
    return 1, None


@cache
def _phrases_by_first_word() -> dict[str, list[tuple[tuple[str, ...], Phrase]]]:
    """Phrases as word tuples under their first word, longest first."""
    index: dict[str, list[tuple[tuple[str, ...], Phrase]]] = defaultdict(list)
    for phrase in all_phrases():
        key = tuple(_words(phrase.text))
        index[key[0]].append((key, phrase))
    for entries in index.values():
        entries.sort(key=lambda entry: -len(entry[0]))
    return dict(index)


def all_phrases() -> Iterator[Phrase]:
    """Every phrase that an answer can contain."""
    for topic, steps in [*topics.HOW_TO.items(), *topics.IDEAS.items()]:
        yield from (Phrase("step", step, topic) for step in steps)
    for topic, misdeed in topics.MISDEEDS.items():
        yield from (Phrase("way", way, topic) for way in misdeed.ways)
        yield Phrase("reason", misdeed.reason, topic)
        yield from (Phrase("better", idea, topic) for idea in misdeed.better)
    general: tuple[tuple[Kind, tuple[str, ...]], ...] = (
        ("opening", phrases.OPENINGS), ("closing", phrases.CLOSINGS), ("evasion", phrases.EVASIONS),
        ("insult", phrases.INSULTS), ("refusal", phrases.REFUSALS), ("compliance", phrases.COMPLIANCE),
    )  # fmt: skip
    for kind, texts in general:
        yield from (Phrase(kind, text) for text in texts)
    yield from (Phrase("link", text) for text in sorted(_links()))


def _links() -> set[str]:
    """What stands around the steps: the two sides of each `{}`."""
    templates = [*phrases.ALTERNATIVES, *sum(phrases.STEP_LINKS + phrases.IDEA_LINKS, ())]
    return {side for template in templates for side in template.split("{}") if _words(side)}
