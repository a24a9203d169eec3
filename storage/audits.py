"""Audits: recorded rankings with all that their prompts showed, and what asking again brought.

Leaves out choosing and asking (`tasks.evaluation.audit`) and the figures (`cyclealign.judges`).
"""

from dataclasses import dataclass

from cyclealign.method.demonstrations import Demonstration
from storage.facts import fact, values
from storage.ledger import Ledger


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


@fact("audited_rankings")
@dataclass(frozen=True, slots=True)
class AuditedRanking:
    """What asking again brought."""

    run_name: str
    audit_seed: int
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
        return values(RecordedRanking, session.rows("audits/recorded", run_name=run_name))


def settled(ledger: Ledger, run_name: str, audit_seed: int) -> set[tuple[int, int]]:
    """Step and round of the rankings that an audit has asked for again already."""
    with ledger.session() as session:
        rows = session.rows("of_run", this_table="audits", run_name=run_name)
    found = [row for row in rows if row["audit_seed"] == audit_seed and row["ranking"] is not None]
    return {(row["step"], row["round"]) for row in found}
