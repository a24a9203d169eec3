"""Rewards of the candidates: what the black box's rankings are held against (Paper: Figure 4).

They are computed after the rounds, by a reward model that the cycle never sees, and change nothing in them.
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
    prompt_id: str
    text: str


def unscored(ledger: Ledger, run_name: str, reward_model: str) -> list[Candidate]:
    """The candidates of a run that `reward_model` has not scored yet, in the order of their rounds."""
    with ledger.session() as session:
        rows = session.rows("response_rewards/unscored", run_name=run_name, reward_model=reward_model)
    return [Candidate(**row) for row in rows]


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
