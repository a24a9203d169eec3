"""Audits: recorded rankings with all that their prompts showed, and what asking again brought.

Leaves out choosing and asking (`tasks.evaluation.audit`) and the figures (`cyclealign.judge_audit`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cyclealign.method.demonstrations import Demonstration
from storage import runs
from storage.ledger import Ledger

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class RecordedRanking:
    """What the black box was shown in one round that it ranked."""

    step: int
    round: int
    instruction: str
    candidates: tuple[str, ...]
    permutation: tuple[int, ...]
    """Element i is the id of the candidate shown at position i."""
    demonstrations: tuple[Demonstration, ...]


@dataclass(frozen=True, slots=True)
class AuditedRanking:
    """What asking again brought."""

    step: int
    round: int
    permutation: tuple[int, ...]
    ranking: tuple[int, ...] | None
    """Candidate ids, best first; None: see `reason`."""
    reason: str | None
    call_key: str


def recorded(ledger: Ledger, run_name: str) -> list[RecordedRanking]:
    """The black box's rankings of a run, in the order of its rounds."""
    with ledger.session() as session:
        return [_recorded(row) for row in session.rows("audits/recorded", run_name=run_name)]


def settled(ledger: Ledger, run_name: str, audit_seed: int) -> set[tuple[int, int]]:
    """Step and round of the rankings that an audit has asked for again already."""
    with ledger.session() as session:
        rows = session.rows("audits/settled", run_name=run_name, audit_seed=audit_seed)
    return {(row["step"], row["round"]) for row in rows}


def put(ledger: Ledger, run_name: str, audit_seed: int, rankings: Sequence[AuditedRanking]) -> None:
    """Keep what asking again brought; rankings that are there stay as they are."""
    if not rankings:
        return
    rows = [_row(one) for one in rankings]
    with ledger.session() as session:
        session.run("audits/put", run_name=run_name, audit_seed=audit_seed, rows=rows)


def collect(ledger: Ledger, run_name: str) -> "pd.DataFrame":
    """The rows of `sql/exhibits/run_audit.sql`.

    Raises:
        RunUnknown: the ledger has no run of this name.
    """
    with ledger.session() as session:
        runs.get(ledger, run_name)  # says which runs there are when this is none
        return session.frame("exhibits/run_audit", run_name=run_name)


def _recorded(row: dict[str, Any]) -> RecordedRanking:
    shown = row["demonstrations"] or []
    return RecordedRanking(
        step=row["step"],
        round=row["round"],
        instruction=row["instruction"],
        candidates=tuple(row["candidates"]),
        permutation=tuple(row["permutation"]),
        demonstrations=tuple(
            Demonstration(one["instruction"], tuple(one["responses"]), tuple(one["ranking"])) for one in shown
        ),
    )


def _row(one: AuditedRanking) -> dict[str, Any]:
    ranking = None if one.ranking is None else list(one.ranking)
    return {**asdict(one), "permutation": list(one.permutation), "ranking": ranking}
