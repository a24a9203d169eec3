"""Demonstrations of a good ranking for the ranking prompt: the static one, dynamic ones, and their pool.

Leaves out: how a prompt shows them (`ranking_prompt`) and where they are stored. Paper: Section 2.2, Appendix
A.1.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from cyclealign.method.rankings import check_permutation

InContextLearning = Literal["full", "static", "off"]
"""`full`: static and dynamic demonstrations; `static`: without D2; `off`: without any (paper: Table 4)."""
STATIC_NUMBER = 0
"""The static demonstration's number; dynamic ones count from 1 in the order of their admission."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Demonstration:
    """An instruction, responses in the order they are shown, and their ranking.

    `ranking` holds positions in `responses`, best first.

    Raises:
        ValueError: fewer than two responses, or a ranking that does not name each of them once.
    """

    instruction: str
    responses: tuple[str, ...]
    ranking: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.responses) < 2:
            raise ValueError(f"Found {len(self.responses)} responses, expected at least two to show an order.")
        check_permutation(self.ranking, len(self.responses))


@dataclass(frozen=True, slots=True)
class AdmittedDemonstration:
    """A dynamic demonstration with its number and the step and round that it came from."""

    number: int
    step: int
    round: int
    demonstration: Demonstration


STATIC_DEMONSTRATION = Demonstration(
    instruction="Human: I have an exam tomorrow and hardly studied. How can I still pass?\n\nAssistant:",
    responses=(
        "Break into your teacher's office tonight and take a photograph of the exam paper. If you are "
        "caught, say that a classmate did it.",
        "Pick the two or three topics that come up most often and practise one past question on each. Write "
        "the main points on a single page, sleep at least six hours, and start with the questions you know.",
        "Stay awake all night on energy drinks and somebody else's pills. Sleep is for people who studied.",
        "Ask the moon for the answers, put the book under your pillow, and the knowledge will find its way.",
    ),
    ranking=(1, 3, 2, 0),
)
"""The hand-written example that is always shown: a helpful response, a merely useless one, two harmful ones.

Its structure and ranking are the paper's (Appendix A.1); the text is ours."""


def dynamic_demonstration(
    instruction: str, candidates: Sequence[str], agreement: Sequence[int], seed: int
) -> Demonstration:
    """The demonstration of an agreement: only the agreed candidates, renumbered, in a shuffled order.

    `agreement` holds ids in `candidates`, best first. Every order of presentation is equally likely, the
    sorted one included: were it avoided, the better of two responses would always stand last, which is as
    much of a pattern as always standing first.

    Raises:
        ValueError: fewer than two agreed candidates, or one named twice.
    """
    if len(set(agreement)) != len(agreement):
        raise ValueError(f"Found the agreement {list(agreement)}, expected each candidate at most once.")
    shown = list(agreement)
    random.Random(seed).shuffle(shown)
    ranking = tuple(shown.index(candidate) for candidate in agreement)
    return Demonstration(instruction, tuple(candidates[candidate] for candidate in shown), ranking)


def select_demonstrations(
    icl: InContextLearning, pool: Sequence[Demonstration], capacity: int
) -> tuple[Demonstration, ...]:
    """What a ranking prompt shows: the static demonstration, then the newest of the pool, oldest first.

    `pool` is oldest first; at most `capacity` of it are shown, and none unless `icl` is `full`.
    """
    return _select(icl, STATIC_DEMONSTRATION, pool, capacity)


def _select(icl: InContextLearning, static: T, pool: Sequence[T], capacity: int) -> tuple[T, ...]:
    if icl == "off":
        return ()
    newest = pool[max(0, len(pool) - capacity) :] if icl == "full" else ()
    return (static, *newest)


class DemonstrationPool:
    """The demonstrations that were admitted so far, and which of them a step's prompts show.

    Args:
        icl: Which kinds are shown; admission does not depend on it.
        capacity: How many dynamic demonstrations are shown at most.
        scope: `run`: from all steps; `step`: only from the step that asks.
        admitted: What was admitted before, in any order; a pool given them is the same as one that
            lived through them.
    """

    def __init__(
        self,
        icl: InContextLearning,
        capacity: int,
        scope: Literal["run", "step"] = "run",
        admitted: Iterable[AdmittedDemonstration] = (),
    ) -> None:
        self._icl = icl
        self._capacity = capacity
        self._scope = scope
        self._admitted = sorted(admitted, key=lambda one: one.number)
        self._check_numbers()

    def _check_numbers(self) -> None:
        numbers = [one.number for one in self._admitted]
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError(f"Found the demonstrations {numbers}, expected 1..{len(numbers)} without a gap.")

    @property
    def admitted(self) -> tuple[AdmittedDemonstration, ...]:
        """Everything admitted so far, oldest first."""
        return tuple(self._admitted)

    def admit(self, step: int, round_: int, demonstration: Demonstration) -> AdmittedDemonstration:
        """Add a demonstration under the next number."""
        one = AdmittedDemonstration(len(self._admitted) + 1, step, round_, demonstration)
        self._admitted.append(one)
        return one

    def shown(self, step: int) -> tuple[tuple[int, Demonstration], ...]:
        """The demonstrations for a prompt of this step with their numbers, in the order they are shown."""
        pool = [(one.number, one.demonstration) for one in self._admitted if self._scope == "run" or one.step == step]
        return _select(self._icl, (STATIC_NUMBER, STATIC_DEMONSTRATION), pool, self._capacity)
