"""The rows behind Tables 1 and 2 of a run's evaluation, through the exhibits in `sql/exhibits/table_*.sql`.

Leaves out statistics and showing (`cyclealign.report.system_tables`).
"""

from dataclasses import dataclass

import pandas as pd

from storage import runs
from storage.ledger import Ledger


@dataclass(frozen=True)
class SystemFrames:
    """One run's evaluation; the columns are the exhibits'."""

    scores: pd.DataFrame
    outcomes: pd.DataFrame
    verdicts: pd.DataFrame
    ranked_by: str | None
    """The model that ranked the rounds that the run learnt from; None where none did."""


def collect_systems(ledger: Ledger, run_name: str) -> SystemFrames:
    """Rewards per system, outcomes and verdicts per pair of systems.

    Raises:
        RunUnknown: the ledger has no run of this name.
    """
    with ledger.session() as session:
        runs.get(ledger, run_name)  # says which runs there are when this is none
        return SystemFrames(
            scores=session.frame("exhibits/table_1_scores", run_name=run_name),
            outcomes=session.frame("exhibits/table_2_outcomes", run_name=run_name),
            verdicts=session.frame("exhibits/table_2_verdicts", run_name=run_name),
            ranked_by=(session.row("runs/rankers", run_name=run_name) or {}).get("ranked_by"),
        )
