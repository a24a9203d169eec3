"""The pairs that wait for people, in which order each person sees the two responses, and the verdicts so far.

Leaves out the page (`cyclealign.annotation.page`) and where verdicts are kept (a `Store`).
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
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

    @property
    def generation_ids(self) -> frozenset[str]:
        """The two responses' ids, in no order."""
        return frozenset(response.generation_id for response in self.responses)

    def shown_to(self, annotator: str) -> "ResponsePair":
        """The pair in this annotator's order: a coin for each annotator and prompt, thrown by a derived seed.

        The ids of the responses are part of the seed. An annotator knows the prompt and their own name, but not those
        ids, and so cannot work out the order.
        """
        one, other = sorted(self.responses, key=lambda response: response.generation_id)
        coin = derive_seed("annotation", annotator, self.prompt_id, *sorted(self.generation_ids)) % 2
        return replace(self, responses=(other, one) if coin else (one, other))

    def id_for(self, annotator: str) -> str:
        """An opaque id; the same after a restart, so that a page left open stays good."""
        text = "\x1f".join(["annotation", annotator, *sorted(self.generation_ids)])
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class PersonVerdict:
    """A person's verdict on two responses, in the order in which the page showed them."""

    annotator: str
    first_generation_id: str
    second_generation_id: str
    verdict: Verdict

    @property
    def generation_ids(self) -> frozenset[str]:
        """The two, in no order."""
        return frozenset((self.first_generation_id, self.second_generation_id))


class Store(Protocol):
    """Keeps verdicts; every method may raise `LedgerError`."""

    def put(self, verdict: PersonVerdict) -> None:
        """Keep a verdict, in the place of an earlier one by the same person on the same pair."""

    def remove(self, verdict: PersonVerdict) -> None:
        """Forget a verdict."""

    def verdicts(self) -> list[PersonVerdict]:
        """All verdicts of people on the pairs, oldest first."""


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


class PairQueue:
    """Hands out pairs in each annotator's order, and remembers the verdicts that the store has accepted.

    Every annotator gets the pairs in the same order, so that those who stop early have judged the same ones. Where the
    store raises a `LedgerError`, nothing changes.
    """

    def __init__(self, pairs: Sequence[ResponsePair], store: Store) -> None:
        self._pairs, self._store = {pair.generation_ids: pair for pair in pairs}, store
        self._judged: dict[str, dict[frozenset[str], PersonVerdict]] = {}
        for made in store.verdicts():
            self._remember(made)

    def __len__(self) -> int:
        return len(self._pairs)

    def judged(self, annotator: str) -> int:
        """How many of the pairs this annotator has judged."""
        return len(self._judged.get(annotator, {}))

    def next_pair(self, annotator: str) -> ResponsePair | None:
        """The first pair that this annotator has not judged; None when all are done."""
        judged = self._judged.get(annotator, {})
        return next((pair.shown_to(annotator) for ids, pair in self._pairs.items() if ids not in judged), None)

    def last_pair(self, annotator: str) -> ResponsePair | None:
        """The pair that this annotator judged last; None when there is none."""
        judged = self._judged.get(annotator)
        return self._pairs[next(reversed(judged))].shown_to(annotator) if judged else None

    def find(self, annotator: str, pair_id: str) -> ResponsePair | None:
        """The pair of an opaque id, as this annotator sees it; None when it is not one of theirs."""
        found = (pair for pair in self._pairs.values() if pair.id_for(annotator) == pair_id)
        return next((pair.shown_to(annotator) for pair in found), None)

    def judge(self, annotator: str, shown: ResponsePair, verdict: Verdict) -> None:
        """Keep a verdict, in the place of an earlier one of this annotator on the pair."""
        first, second = shown.responses
        made = PersonVerdict(annotator, first.generation_id, second.generation_id, verdict)
        self._store.put(made)
        self._remember(made)

    def withdraw(self, annotator: str, shown: ResponsePair) -> None:
        """Forget this annotator's verdict on a pair, which comes up again."""
        made = self._judged.get(annotator, {}).get(shown.generation_ids)
        if made is not None:
            self._store.remove(made)
            self._judged[annotator].pop(made.generation_ids, None)

    def _remember(self, made: PersonVerdict) -> None:
        judged = self._judged.setdefault(made.annotator, {})
        judged.pop(made.generation_ids, None)  # judged again: it is the latest now
        judged[made.generation_ids] = made
