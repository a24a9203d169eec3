"""Refolds: the recorded rounds of one run, given to another that trains on them anew.

The copy is one transaction: a refold that is killed finds all rounds of its source or none. Leaves out: training
(`tasks.cycle.loop`) and what another tokenizer makes of the texts (`tasks.studies.refolding`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storage import response_rewards
from storage.ledger import Ledger, Session

Encode = Callable[[str, bool], Sequence[int]]
"""Tokens of a candidate from its text and whether it ended by itself."""


COPIED_AS_THEY_ARE = (
    "refolds/copy_rankings",
    "refolds/copy_pseudo_labels",
    "refolds/copy_demonstrations",
    "refolds/copy_shown",
    "refolds/copy_rewards",
)


@dataclass(frozen=True, slots=True)
class Refolding:
    """Which rounds go where."""

    source_run: str
    run_name: str
    steps: tuple[int, ...]
    """Element i is the step at which the source's step i is trained on."""
    wave: int
    """Prompts that go through their rounds together in the new run."""


def copy_once(ledger: Ledger, refolding: Refolding, encode: Encode | None = None) -> bool:
    """Give the new run the source's rounds; False when it has them already.

    Args:
        ledger: Where both runs are.
        refolding: Which rounds go where.
        encode: Makes tokens of the candidates' texts; None keeps the recorded tokens.
    """
    with ledger.session() as session, session.transaction():
        if session.value("refolds/copied", run_name=refolding.run_name):
            return False
        key = {"source_run": refolding.source_run, "run_name": refolding.run_name}
        steps = list(refolding.steps)
        encoded = [] if encode is None else _encoded(session, refolding.source_run, encode)
        session.run("refolds/copy_rounds", steps=steps, wave=refolding.wave, **key)
        session.run("refolds/copy_responses", steps=steps, encoded=encoded, **key)
        for query in COPIED_AS_THEY_ARE:
            session.run(query, steps=steps, **key)
        response_rewards.count_pairs(session, refolding.run_name)
    return True


def _encoded(session: Session, run_name: str, encode: Encode) -> list[dict[str, object]]:
    rows = session.rows("refolds/candidates", run_name=run_name)
    return [
        {key: row[key] for key in ("step", "round", "slot")} | {"tokens": list(encode(row["text"], row["ended"]))}
        for row in rows
    ]
