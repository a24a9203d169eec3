"""The lives of a run that was killed again and again: what was asked in each, and what each left; the accounts.

Two witnesses are held against each other: the judge's log of what it was asked, and the ledger as each kill left it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.flows.remains import Remains


@dataclass(frozen=True)
class Life:
    """From a start to a kill, or to the end."""

    asked: Counter[str]
    """Requests that reached the judge, by call."""
    left: Remains
    """What was committed when it was over."""


def lost(lives: Sequence[Life], number: int) -> Counter[str]:
    """The calls that were under way, as far as the ledger knows, when life `number` ended; not those of lives before.

    A life that dies early leaves what earlier ones have lost as it found it.
    """
    before = lives[number - 1].left.in_flight if number else {}
    return Counter(call for attempt, call in lives[number].left.in_flight.items() if attempt not in before)


def bought_again(lives: Sequence[Life]) -> int:
    """Requests for calls whose answer was committed before the life in which they were sent; must be 0."""
    calls = lives[-1].left.calls
    return sum(
        max(0, times - (calls[call] - before.left.answered[call]))
        for before, life in pairwise(lives)
        for call, times in life.asked.items()
    )


def asked_again(lives: Sequence[Life]) -> Counter[str]:
    """How many times more than once each call was asked."""
    calls = lives[-1].left.calls
    asked = sum((life.asked for life in lives), Counter[str]())
    return Counter({call: times - calls[call] for call, times in asked.items() if times > calls[call]})


def without_cause(lives: Sequence[Life]) -> int:
    """Requests that repeat a call more often than it was lost in flight; must be 0."""
    in_flight = sum((lost(lives, number) for number in range(len(lives))), Counter[str]())
    return (asked_again(lives) - in_flight).total()


def again_after(lives: Sequence[Life], number: int) -> int:
    """Of the calls lost at the end of life `number`: how many later requests repeat them, until they are lost again."""
    return sum(_repeats(lives, number, call) for call in lost(lives, number))


def _repeats(lives: Sequence[Life], number: int, call: str) -> int:
    if not sum(life.asked[call] for life in lives[: number + 1]):
        return 0  # committed as in flight, but never sent: the first request is no repetition
    repeated = 0
    for later in range(number + 1, len(lives)):
        repeated += lives[later].asked[call]
        if lost(lives, later)[call]:
            break
    return repeated
