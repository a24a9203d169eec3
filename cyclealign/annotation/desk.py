"""The pairs that wait for people, in which order each person sees the two responses, and what was judged.

Leaves out the pages (`cyclealign.annotation.pages`) and where verdicts are kept (a `Store`).
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cyclealign.errors import UsageError
from cyclealign.method.comparison_prompt import Verdict
from cyclealign.records import Turn
from cyclealign.seeds import derive_seed

LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class WrittenResponse:
    """A response of one of the two systems; its id tells the server, and nobody else, which one."""

    generation_id: str
    text: str


@dataclass(frozen=True, slots=True)
class ResponsePair:
    """Two systems' responses to one prompt."""

    prompt_id: str
    turns: tuple[Turn, ...]
    responses: tuple[WrittenResponse, WrittenResponse]


@dataclass(frozen=True, slots=True)
class ShownPair:
    """A pair as one annotator sees it."""

    pair_id: str
    """Opaque; the same after a restart, so that a page left open stays good."""
    turns: tuple[Turn, ...]
    first: WrittenResponse
    second: WrittenResponse


@dataclass(frozen=True, slots=True)
class PersonVerdict:
    """What a person said of two responses, in the order in which they were shown."""

    annotator: str
    first_generation_id: str
    second_generation_id: str
    verdict: Verdict

    @property
    def generation_ids(self) -> frozenset[str]:
        """The two, in no order."""
        return frozenset((self.first_generation_id, self.second_generation_id))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an annotator is."""

    judged: int
    total: int


class Store(Protocol):
    """Where verdicts are kept; every method may raise `LedgerError`."""

    def put(self, verdict: PersonVerdict) -> None:
        """Keep a verdict, in the place of an earlier one by the same person on the same pair."""

    def remove(self, verdict: PersonVerdict) -> None:
        """Forget a verdict; nothing happens when there is none."""

    def verdicts(self) -> list[PersonVerdict]:
        """All verdicts of people on the pairs, oldest first."""


def show(pair: ResponsePair, annotator: str) -> ShownPair:
    """The pair in this annotator's order: a coin for each annotator and prompt, thrown by a derived seed.

    The ids of the responses are part of the seed. An annotator knows the prompt and their own name, but not
    those ids, and so cannot work out the order.
    """
    by_id = sorted(pair.responses, key=lambda response: response.generation_id)
    ids = [response.generation_id for response in by_id]
    first, second = by_id[:: -1 if derive_seed("annotation", annotator, pair.prompt_id, *ids) % 2 else 1]
    text = "\x1f".join(["annotation", annotator, *ids])
    return ShownPair(hashlib.sha256(text.encode()).hexdigest()[:20], pair.turns, first, second)


def clean_name(name: str) -> str:
    """An annotator's name in one spelling, so that the same person is one annotator after a restart.

    Raises:
        UsageError: nothing is left of it, it is too long, or it holds characters that cannot be printed.
    """
    cleaned = " ".join(unicodedata.normalize("NFC", name).split())
    if not cleaned or len(cleaned) > LONGEST_NAME or not cleaned.isprintable():
        raise UsageError(
            f"Found {len(cleaned)} characters as an annotator's name. Expected 1 to {LONGEST_NAME} letters, digits "
            "or spaces."
        )
    return cleaned


class Desk:
    """Hands out pairs, takes verdicts to the store, and remembers those that the store has accepted.

    Every annotator gets the pairs in the same order, so that those who stop early have judged the same ones.
    """

    def __init__(self, pairs: Sequence[ResponsePair], store: Store) -> None:
        self._pairs = tuple(pairs)
        self._store = store
        self._judged: dict[str, dict[frozenset[str], Verdict]] = {}
        for verdict in store.verdicts():
            self._remember(verdict)

    def next_pair(self, annotator: str) -> ShownPair | None:
        """The first pair that this annotator has not judged; None when all are done."""
        judged = self._judged.get(annotator, {})
        found = next((pair for pair in self._pairs if _ids(pair) not in judged), None)
        return None if found is None else show(found, annotator)

    def last_pair(self, annotator: str) -> ShownPair | None:
        """The pair that this annotator judged last; None when there is none."""
        judged = list(self._judged.get(annotator, {}))
        found = next((pair for pair in self._pairs if judged and _ids(pair) == judged[-1]), None)
        return None if found is None else show(found, annotator)

    def find(self, annotator: str, pair_id: str) -> ShownPair | None:
        """The pair of an opaque id, as this annotator sees it; None when it is not one of theirs."""
        shown = (show(pair, annotator) for pair in self._pairs)
        return next((pair for pair in shown if pair.pair_id == pair_id), None)

    def judge(self, annotator: str, shown: ShownPair, verdict: Verdict) -> None:
        """Keep a verdict; an earlier one of this annotator on the pair is replaced.

        Raises:
            LedgerError: it could not be stored; the pair stays unjudged.
        """
        made = PersonVerdict(annotator, shown.first.generation_id, shown.second.generation_id, verdict)
        self._store.put(made)
        self._remember(made)

    def withdraw(self, annotator: str, shown: ShownPair) -> None:
        """Forget this annotator's verdict on a pair, which comes up again.

        Raises:
            LedgerError: the store could not forget it; it stays.
        """
        made = PersonVerdict(annotator, shown.first.generation_id, shown.second.generation_id, "tie")
        self._store.remove(made)
        self._judged.get(annotator, {}).pop(made.generation_ids, None)

    def progress(self, annotator: str) -> Progress:
        """How many of the pairs this annotator has judged."""
        return Progress(len(self._judged.get(annotator, {})), len(self._pairs))

    def _remember(self, made: PersonVerdict) -> None:
        judged = self._judged.setdefault(made.annotator, {})
        judged.pop(made.generation_ids, None)  # judged again: it is the latest now
        judged[made.generation_ids] = made.verdict


def _ids(pair: ResponsePair) -> frozenset[str]:
    return frozenset(response.generation_id for response in pair.responses)
