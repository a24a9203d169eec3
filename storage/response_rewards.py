"""Rewards of the candidates: what the black box's rankings are held against (Paper: Figure 4).

They are computed beside the rounds, by a reward model that the cycle never sees, and change nothing in them. The pairs
of candidates that they tell apart are counted with them, so that Figure 4 need not hold all candidates of all runs
against each other whenever somebody looks at it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from storage.ledger import Ledger, Session

LAST_STEP = 2**31 - 1
"""The largest that the ledger can hold."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recorded candidate; `slot` is its id."""

    step: int
    round: int
    slot: int
    text: str


def unscored(ledger: Ledger, run_name: str, reward_model: str, first: int, last: int) -> list[Candidate]:
    """The candidates of the steps `first … last - 1` that the reward model has not scored, by step, round, slot."""
    with ledger.session() as session:
        rows = session.rows(
            "response_rewards/unscored", run_name=run_name, reward_model=reward_model, first_step=first, last_step=last
        )
    return [Candidate(**row) for row in rows]


def any_unscored(ledger: Ledger, run_name: str) -> bool:
    """Whether the run has candidates that no reward model has scored."""
    with ledger.session() as session:
        return bool(session.value("response_rewards/any_unscored", run_name=run_name))


def mean(ledger: Ledger, run_name: str, reward_model: str, first: int, last: int) -> float | None:
    """Mean reward of the candidates of the steps `first … last - 1`; None where none is scored."""
    with ledger.session() as session:
        row = session.row(
            "response_rewards/mean", run_name=run_name, reward_model=reward_model, first_step=first, last_step=last
        )
    return None if row is None else row["reward"]


def put(ledger: Ledger, run_name: str, reward_model: str, rewards: Mapping[Candidate, float]) -> None:
    """Keep rewards, and count pairs anew in their steps; rewards that are there stay as they are."""
    if not rewards:
        return
    rows = [
        {"step": one.step, "round": one.round, "slot": one.slot, "reward": reward} for one, reward in rewards.items()
    ]
    steps = [one.step for one in rewards]
    with ledger.session() as session, session.transaction():
        session.run("response_rewards/put", run_name=run_name, reward_model=reward_model, rows=rows)
        count_pairs(session, run_name, min(steps), max(steps))


def count_pairs(session: Session, run_name: str, first_step: int = 0, last_step: int = LAST_STEP) -> None:
    """Count the pairs of candidates with different rewards in a run's steps, both ends included.

    Whoever puts rewards or copies them owes this, in the same transaction.
    """
    steps = {"run_name": run_name, "first_step": first_step, "last_step": last_step}
    session.run("response_rewards/forget_pairs", **steps)
    session.run("response_rewards/count_pairs", **steps)
