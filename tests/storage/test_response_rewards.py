"""Rewards of candidates, and the pairs that they tell apart: counted whenever rewards come in, on whatever way."""

from pathlib import Path

from storage import imports, refolds, response_rewards, runs
from storage.ledger import Ledger
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
    ledger.record(*(sampled(step, run_name=name) for step in (0, 1)))
    ledger.record(ranked(0, run_name=name), unranked(1, run_name=name))


def put(ledger: Ledger, rewards: dict[int, tuple[float, ...]], name: str = "a-run", model: str = "m") -> None:
    """Put rewards by step and slot."""
    of = [sampled(step, run_name=name) for step in rewards]
    response_rewards.put(ledger, model, of, list(rewards.values()))


def counted(ledger: Ledger, name: str = "a-run") -> list[tuple[object, ...]]:
    """Step, reward model, pairs, and how many of them the black box and the white box have right."""
    columns = "step, reward_model, pairs, black_box_right, white_box_right"
    frame = ledger.query(f"select {columns} from counted_pairs where run_name = '{name}' order by all")
    return list(frame.itertuples(index=False, name=None))


def test_pairs_are_counted_with_the_rewards_in_rounds_that_were_ranked(ledger: Ledger) -> None:
    assert counted(scored(ledger)) == [(0, *COUNTED)]


def test_candidates_with_the_same_reward_are_no_pair(ledger: Ledger) -> None:
    recorded(ledger)
    put(ledger, {0: (1.0, 1.0, 1.0)})
    assert counted(ledger) == []


def test_another_reward_model_is_counted_beside_the_first(ledger: Ledger) -> None:
    scored(ledger)
    put(ledger, {0: (0.0, -1.0, -2.0)}, model="n")
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
