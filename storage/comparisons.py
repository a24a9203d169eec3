"""Comparisons: what a judge, or a person, said about two responses to the same prompt in one order.

What the verdicts of both orders come to is the view `comparison_outcomes` of the schema. Leaves out asking
(`tasks.evaluation.comparison`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from storage.ledger import Ledger

Verdict = Literal["first", "second", "tie", "missing"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A judge's verdict on two generations in the order in which they were shown."""

    first_generation_id: str
    second_generation_id: str
    judge: str
    """Everything that decides its verdict besides the responses: model, endpoint, parameters, wording; or a person."""
    judge_kind: Literal["model", "person", "reward"]
    verdict: Verdict
    reason: str | None = None
    """Why the verdict is missing, or how it came about without asking."""
    call_key: str | None = None

    @property
    def comparison_id(self) -> str:
        """Digest of the two generations in their order and the judge."""
        return comparison_id(self.first_generation_id, self.second_generation_id, self.judge)


def comparison_id(first_generation_id: str, second_generation_id: str, judge: str) -> str:
    """Identity of one judge's comparison of two generations in one order."""
    text = json.dumps([first_generation_id, second_generation_id, judge])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def put(ledger: Ledger, comparisons: Sequence[Comparison]) -> None:
    """Keep verdicts, all or none; those that are there stay as they are, except missing ones."""
    if not comparisons:
        return
    with ledger.session() as session:
        session.run("comparisons/put", rows=[_row(one) for one in comparisons])


def found(ledger: Ledger, comparison_ids: Sequence[str]) -> dict[str, Comparison]:
    """Those of the comparisons that are there, by id."""
    with ledger.session() as session:
        rows = session.rows("comparisons/found", comparison_ids=list(comparison_ids))
    return {one.comparison_id: one for one in (Comparison(**row) for row in rows)}


def _row(one: Comparison) -> dict[str, Any]:
    return {**asdict(one), "comparison_id": one.comparison_id}
