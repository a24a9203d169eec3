"""Rewards of the candidates: what the black box's rankings are held against (Paper: Figure 4).

They are computed beside the rounds, by a reward model that the cycle never sees, and change nothing in them. The pairs
of candidates that they tell apart are counted with them, so that Figure 4 need not hold all candidates of all runs
against each other whenever somebody looks at it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from storage.facts import fact
from storage.ledger import Ledger
from storage.rounds import RankedRound, SampledRound, recorded


@fact("candidate_rewards")
@dataclass(frozen=True, slots=True)
class CandidateRewards:
    """The rewards of one round's candidates; of a round that was ranked, how the rankers' pairs stand to them."""

    run_name: str
    step: int
    round: int
    reward_model: str
    rewards: tuple[float, ...]
    """By candidate id."""
    pairs: int | None
    """Pairs of candidates with different rewards; None where the black box did not rank."""
    black_box_right: int | None
    white_box_right: int | None


def unscored(ledger: Ledger, run_name: str, reward_model: str, first: int, last: int) -> list[SampledRound]:
    """The rounds of the steps `first … last - 1` whose candidates the reward model has not scored, in order."""
    with ledger.session() as session:
        steps = {"run_name": run_name, "first_step": first, "last_step": last}
        rows = session.rows("of_steps", this_table="candidate_rewards", **steps)
    scored = {(row["step"], row["round"]) for row in rows if row["reward_model"] == reward_model}
    found = recorded(ledger, run_name, first, last)
    return [one.sampled for place, one in found.items() if place not in scored]


def any_unscored(ledger: Ledger, run_name: str) -> bool:
    """Whether the run has candidates that no reward model has scored."""
    with ledger.session() as session:
        return bool(session.value("response_rewards/any_unscored", run_name=run_name))


def mean(ledger: Ledger, run_name: str, reward_model: str, first: int, last: int) -> float | None:
    """Mean reward of the candidates of the steps `first … last - 1`; None where none is scored."""
    with ledger.session() as session:
        steps = {"run_name": run_name, "first_step": first, "last_step": last}
        rows = session.rows("of_steps", this_table="response_rewards", **steps)
    rewards = [row["reward"] for row in rows if row["reward_model"] == reward_model]
    return sum(rewards) / len(rewards) if rewards else None


def put(ledger: Ledger, reward_model: str, rounds: Sequence[SampledRound], rewards: Sequence[Sequence[float]]) -> None:
    """Keep the rewards of the candidates of rounds of one run, together; those that are there stay as they are."""
    if not rounds:
        return
    steps = [one.step for one in rounds]
    found = recorded(ledger, rounds[0].run_name, min(steps), max(steps) + 1)
    ledger.record(
        *(
            counted(reward_model, one, found[one.step, one.round].ranked, of_round)
            for one, of_round in zip(rounds, rewards, strict=True)
        )
    )


def counted(
    reward_model: str, sampled: SampledRound, ranked: RankedRound | None, rewards: Sequence[float]
) -> CandidateRewards:
    """A round's rewards with the pairs of candidates counted that they tell apart."""
    place = (sampled.run_name, sampled.step, sampled.round, reward_model, tuple(rewards))
    if ranked is None or ranked.answer is None:
        return CandidateRewards(*place, None, None, None)
    pairs = [(one, other) for one, other in permutations(range(len(rewards)), 2) if rewards[one] > rewards[other]]
    right = [
        sum(ranking.index(better) < ranking.index(worse) for better, worse in pairs)
        for ranking in (ranked.answer.ranking, sampled.white_box_ranking)
    ]
    return CandidateRewards(*place, len(pairs), *right)
