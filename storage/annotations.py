"""What people are asked to compare, and what they said: rows of `comparisons` whose judge is a person.

Leaves out the page (`cyclealign.annotation`) and models as judges (`storage.comparisons`).
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from cyclealign.annotation.pairs import PersonVerdict, ResponsePair, WrittenResponse
from cyclealign.errors import UsageError
from cyclealign.records import Turn
from storage import evaluations, runs
from storage.ledger import Ledger


def read_pairs(ledger: Ledger, run_name: str, roles: tuple[str, str]) -> list[ResponsePair]:
    """Two systems' responses to the prompts of a run's evaluation that both responded to, in the sample's order.

    Raises:
        RunUnknown: the ledger has no run of this name.
        UsageError: the run's evaluation has no such systems, or nothing of theirs to compare.
    """
    with ledger.session() as session:
        runs.get(ledger, run_name)  # says which runs there are when this is none
        _check(run_name, roles, list(evaluations.run_systems(ledger, run_name)))
        rows = session.rows("annotations/pairs", run_name=run_name, roles=list(roles))
    if not rows:
        raise UsageError(
            f"Run {run_name} has no prompt that both {roles[0]} and {roles[1]} responded to. Expected an evaluation "
            f"that is under way or done: `cyclealign evaluate {run_name}` makes one."
        )
    return [_pair(row) for row in rows]


class PersonVerdicts:
    """The verdicts of people on given pairs, each written in a short session of its own.

    Every method raises `LedgerError` when the ledger cannot be used; nothing is half written then.
    """

    def __init__(self, ledger: Ledger, pairs: Sequence[ResponsePair]) -> None:
        self._ledger = ledger
        self._pairs = frozenset(pair.generation_ids for pair in pairs)

    def put(self, verdict: PersonVerdict) -> None:
        """Keep a verdict, in the place of an earlier one by the same person on the same pair."""
        with self._ledger.session() as session:
            session.run(
                "annotations/put",
                comparison_id=_comparison_id(verdict),
                first_generation_id=verdict.first_generation_id,
                second_generation_id=verdict.second_generation_id,
                annotator=verdict.annotator,
                verdict=verdict.verdict,
            )

    def remove(self, verdict: PersonVerdict) -> None:
        """Forget a verdict; nothing happens when there is none."""
        with self._ledger.session() as session:
            session.run("annotations/remove", comparison_id=_comparison_id(verdict))

    def verdicts(self) -> list[PersonVerdict]:
        """All verdicts of people on the pairs, oldest first."""
        ids = [generation_id for pair in self._pairs for generation_id in pair]
        with self._ledger.session() as session:
            rows = session.rows("annotations/verdicts", generation_ids=ids)
        return [one for one in (PersonVerdict(**row) for row in rows) if one.generation_ids in self._pairs]


def _check(run_name: str, roles: tuple[str, str], known: list[str]) -> None:
    missing = [role for role in roles if role not in known]
    if missing or roles[0] == roles[1]:
        raise UsageError(
            f"Found {', '.join(missing) or f'{roles[0]} twice'} among the systems to compare, expected two of those "
            f"in the evaluation of {run_name}: {', '.join(sorted(known)) or 'none yet'}. Name them with --systems."
        )


def _comparison_id(verdict: PersonVerdict) -> str:
    """One person, one pair, one row, in whichever order it was shown."""
    named = ["person", verdict.annotator, *sorted(verdict.generation_ids)]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]


def _pair(row: dict[str, Any]) -> ResponsePair:
    turns = tuple(Turn(turn["speaker"], turn["text"]) for turn in row["turns"])
    one, other = (WrittenResponse(**response) for response in row["responses"])
    return ResponsePair(row["prompt_id"], turns, (one, other))
