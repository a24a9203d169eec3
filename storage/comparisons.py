"""Comparisons: what a judge, or a person, said about two responses to the same prompt in one order.

What the verdicts of both orders come to is the view `comparison_outcomes`. Leaves out asking
(`tasks.evaluation.comparison`) and the page on which people compare (`cyclealign.annotation`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cyclealign.annotation.pairs import PersonVerdict, ResponsePair, WrittenResponse
from cyclealign.errors import UsageError
from cyclealign.records import Turn
from storage import evaluations, runs
from storage.facts import fact, values
from storage.ledger import Ledger

Verdict = Literal["first", "second", "tie", "missing"]


@fact("compared_pairs", "comparison_id")
@dataclass(frozen=True, slots=True)
class Comparison:
    """A judge's verdict on two generations in the order in which they were shown."""

    first_generation_id: str
    second_generation_id: str
    judge: str
    """Everything that decides its verdict besides the responses: model, endpoint, parameters, wording; or a person."""
    judge_kind: Literal["model", "person", "reward"]
    verdict: Literal["first", "second", "tie", "missing", "forgotten"]
    """`forgotten`: a person took theirs back."""
    reason: str | None = None
    """Why the verdict is missing, or how it came about without asking."""
    call_key: str | None = None

    @property
    def comparison_id(self) -> str:
        """Digest of the two generations and the judge; of a person, who has one verdict on a pair, in no order."""
        order = (self.first_generation_id, self.second_generation_id)
        if self.judge_kind == "person":
            return _digest("person", self.judge, *sorted(order))
        return comparison_id(*order, self.judge)


def comparison_id(first_generation_id: str, second_generation_id: str, judge: str) -> str:
    """Identity of one model's comparison of two generations in one order."""
    return _digest(first_generation_id, second_generation_id, judge)


def found(ledger: Ledger, comparison_ids: Sequence[str]) -> dict[str, Comparison]:
    """Those of the comparisons that are there, by id."""
    with ledger.session() as session:
        rows = session.rows("with_ids", this_table="comparisons", this_id="comparison_id", ids=list(comparison_ids))
    return {one.comparison_id: one for one in values(Comparison, rows)}


def read_pairs(ledger: Ledger, run_name: str, roles: tuple[str, str]) -> list[ResponsePair]:
    """Two systems' responses to the prompts of a run's evaluation that both responded to, in the sample's order.

    Raises:
        RunUnknown: the ledger has no run of this name.
        UsageError: the run's evaluation has no such systems, or nothing of theirs to compare.
    """
    runs.get(ledger, run_name)  # says which runs there are when this is none
    _check(run_name, roles, list(evaluations.run_systems(ledger, run_name)))
    with ledger.session() as session:
        rows = session.rows("comparisons/pairs", run_name=run_name, roles=list(roles))
    if not rows:
        raise UsageError(
            f"Run {run_name} has no prompt that both {roles[0]} and {roles[1]} responded to. Expected an evaluation "
            f"that is under way or done: `cyclealign evaluate {run_name}` makes one."
        )
    return [_pair(row) for row in rows]


class PersonVerdicts:
    """The verdicts of people on given pairs; what a method keeps is on the disk when it comes back.

    Every method raises `LedgerError` when the ledger cannot be used; nothing is half written then.
    """

    def __init__(self, ledger: Ledger, pairs: Sequence[ResponsePair]) -> None:
        self._ledger = ledger
        self._pairs = frozenset(frozenset(one.generation_id for one in pair.responses) for pair in pairs)

    def put(self, verdict: PersonVerdict) -> None:
        """Keep a verdict, in the place of an earlier one by the same person on the same pair."""
        self._ledger.record(_comparison(verdict, verdict.verdict))

    def remove(self, verdict: PersonVerdict) -> None:
        """Forget a verdict; nothing happens when there is none."""
        self._ledger.record(_comparison(verdict, "forgotten"))

    def verdicts(self) -> list[PersonVerdict]:
        """All verdicts of people on the pairs, oldest first."""
        ids = [generation_id for pair in self._pairs for generation_id in pair]
        with self._ledger.session() as session:
            rows = session.rows("comparisons/of_people", generation_ids=ids)
        return [one for one in (PersonVerdict(**row) for row in rows) if one.generation_ids in self._pairs]


def _comparison(one: PersonVerdict, verdict: Any) -> Comparison:
    return Comparison(one.first_generation_id, one.second_generation_id, one.annotator, "person", verdict)


def _check(run_name: str, roles: tuple[str, str], known: list[str]) -> None:
    missing = [role for role in roles if role not in known]
    if missing or roles[0] == roles[1]:
        raise UsageError(
            f"Found {', '.join(missing) or f'{roles[0]} twice'} among the systems to compare, expected two of those "
            f"in the evaluation of {run_name}: {', '.join(sorted(known)) or 'none yet'}. Name them with --systems."
        )


def _pair(row: dict[str, Any]) -> ResponsePair:
    turns = tuple(Turn(turn["speaker"], turn["text"]) for turn in row["turns"])
    one, other = (WrittenResponse(**response) for response in row["responses"])
    return ResponsePair(row["prompt_id"], turns, (one, other))


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
