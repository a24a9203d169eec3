"""Rewards of the candidates: what the black box's rankings are held against (Paper: Figure 4).

They are computed beside the rounds, by a reward model that the cycle never sees, and change nothing in them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from storage.ledger import Ledger


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
            "response_rewards/unscored",
            run_name=run_name,
            reward_model=reward_model,
            first_step=first,
            last_step=last,
        )
    return [Candidate(**row) for row in rows]


def mean(ledger: Ledger, run_name: str, reward_model: str, first: int, last: int) -> float | None:
    """Mean reward of the candidates of the steps `first … last - 1`; None where none is scored."""
    with ledger.session() as session:
        row = session.row(
            "response_rewards/mean",
            run_name=run_name,
            reward_model=reward_model,
            first_step=first,
            last_step=last,
        )
    return None if row is None else row["reward"]


def put(ledger: Ledger, run_name: str, reward_model: str, rewards: Mapping[Candidate, float]) -> None:
    """Keep rewards; those that are there stay as they are."""
    if not rewards:
        return
    rows = [
        {"step": one.step, "round": one.round, "slot": one.slot, "reward": reward}
        for one, reward in rewards.items()
    ]
    with ledger.session() as session:
        session.run("response_rewards/put", run_name=run_name, reward_model=reward_model, rows=rows)
