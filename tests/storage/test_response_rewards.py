"""Rewards of candidates, and the pairs that they tell apart: counted whenever rewards come in, on whatever way."""

from pathlib import Path

import pytest

from storage import imports, refolds, response_rewards, rounds, runs
from storage.ledger import Ledger
from storage.response_rewards import Candidate
from tests.storage.values import new_run, ranked, sampled, unranked

REWARDS = (1.0, 0.0, 2.0)
"""By candidate id; the black box ranks 0, 2, 1, the white box 0, 1, 2."""
COUNTED = ("m", 3, 2, 1)
"""1 before 0 is right in both rankings, 2 before 0 in the black box's alone, 2 before 1 in neither."""


def scored(ledger: Ledger, name: str = "a-run") -> Ledger:
    """A run of one ranked round and one that could not be ranked, both with rewards."""
    recorded(ledger, name)
    put(ledger, {0: REWARDS, 1: REWARDS}, name)
    return ledger


def recorded(ledger: Ledger, name: str = "a-run") -> None:
    runs.register(ledger, new_run(name))
    rounds.record_sampled(ledger, name, [sampled(0), sampled(1)])
    rounds.record_ranked(ledger, name, [ranked(0), unranked(1)])


def put(ledger: Ledger, rewards: dict[int, tuple[float | None, ...]], name: str = "a-run") -> None:
    """Put rewards by step and slot; None: not that one."""
    candidates = {
        Candidate(step, 1, slot, "t"): reward
        for step, of_step in rewards.items()
        for slot, reward in enumerate(of_step)
        if reward is not None
    }
    response_rewards.put(ledger, name, "m", candidates)


def counted(ledger: Ledger, name: str = "a-run") -> list[tuple[object, ...]]:
    """Step, reward model, pairs, and how many of them the black box and the white box have right."""
    columns = "step, reward_model, pairs, black_box_right, white_box_right"
    frame, _ = ledger.query_anywhere(f"select {columns} from counted_pairs where run_name = '{name}' order by all")
    return list(frame.itertuples(index=False, name=None))


def test_pairs_are_counted_with_the_rewards_in_rounds_that_were_ranked(ledger: Ledger) -> None:
    assert counted(scored(ledger)) == [(0, *COUNTED)]


def test_a_round_whose_rewards_come_in_parts_counts_once(ledger: Ledger) -> None:
    recorded(ledger)
    put(ledger, {0: (*REWARDS[:2], None)})
    assert counted(ledger) == [(0, "m", 1, 1, 1)]
    put(ledger, {0: (None, None, REWARDS[2])})
    assert counted(ledger) == [(0, *COUNTED)]


def test_candidates_with_the_same_reward_are_no_pair(ledger: Ledger) -> None:
    recorded(ledger)
    put(ledger, {0: (1.0, 1.0, 1.0)})
    assert counted(ledger) == []


def test_another_reward_model_is_counted_beside_the_first(ledger: Ledger) -> None:
    scored(ledger)
    response_rewards.put(ledger, "a-run", "n", {Candidate(0, 1, slot, "t"): -slot for slot in range(3)})
    assert counted(ledger) == [(0, *COUNTED), (0, "n", 3, 2, 3)]


def test_a_refold_has_the_counts_of_its_source_at_its_own_steps(ledger: Ledger) -> None:
    scored(ledger)
    refolds.copy_once(ledger, refolds.Refolding("a-run", "again", steps=(1, 0), wave=1))
    assert counted(ledger, "again") == [(1, *COUNTED)]


def test_a_merged_run_has_its_counts_and_is_counted_once_when_merged_again(ledger: Ledger, tmp_path: Path) -> None:
    other = scored(Ledger(tmp_path / "other"), "there")
    runs.finish(other, "there")
    other.close()
    for _ in range(2):
        imports.merge(ledger, other.home)
        assert counted(ledger, "there") == [(0, *COUNTED)]


@pytest.mark.parametrize("first_step", [0, 1], ids=["the first step", "the second"])
def test_counting_some_steps_anew_leaves_the_others_as_they_are(ledger: Ledger, first_step: int) -> None:
    recorded(ledger)
    rounds.record_sampled(ledger, "a-run", [sampled(2)])
    rounds.record_ranked(ledger, "a-run", [ranked(2)])
    put(ledger, {0: REWARDS, 2: REWARDS})
    with ledger.session() as session:
        response_rewards.count_pairs(session, "a-run", first_step, first_step + 1)
    assert counted(ledger) == [(0, *COUNTED), (2, *COUNTED)]
