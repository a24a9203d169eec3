"""Demonstrations: what they hold, how agreements become some, which are shown."""

import random
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclealign.method.demonstrations import (
    STATIC_DEMONSTRATION,
    AdmittedDemonstration,
    Demonstration,
    DemonstrationPool,
    InContextLearning,
    dynamic_demonstration,
    select_demonstrations,
)


def numbered(number: int) -> Demonstration:
    return Demonstration(f"instruction {number}", ("good", "bad"), (0, 1))


@pytest.mark.parametrize(
    ("responses", "ranking"),
    [(("a", "b"), (0, 0)), (("a", "b"), (0,)), (("a", "b"), (1, 2)), (("a",), (0,)), ((), ())],
    ids=["repeated", "missing", "unknown", "one response", "none"],
)
def test_a_demonstration_ranks_each_of_its_responses_once(responses: tuple[str, ...], ranking: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Found"):
        Demonstration("instruction", responses, ranking)


def test_the_static_demonstration_has_the_structure_of_the_papers() -> None:
    assert len(STATIC_DEMONSTRATION.responses) == 4
    assert STATIC_DEMONSTRATION.ranking == (1, 3, 2, 0)
    assert STATIC_DEMONSTRATION.instruction.startswith("Human: ")
    assert STATIC_DEMONSTRATION.instruction.endswith("\n\nAssistant:")


@given(st.permutations(range(5)), st.integers(2, 5), st.integers(0))
def test_the_ranking_of_a_dynamic_demonstration_is_the_agreement(order: list[int], length: int, seed: int) -> None:
    agreement = order[:length]
    texts = [f"text {candidate}" for candidate in range(5)]
    shown = dynamic_demonstration("instruction", texts, agreement, seed)
    assert [shown.responses[position] for position in shown.ranking] == [texts[one] for one in agreement]
    assert sorted(shown.ranking) == list(range(length))


@pytest.mark.parametrize("length", [2, 3])
def test_no_position_gives_away_the_best_response(length: int) -> None:
    texts = ["a", "b", "c"][:length]
    rankings = {dynamic_demonstration("i", texts, range(length), seed).ranking for seed in range(100)}
    assert rankings == set(permutations(range(length)))


@pytest.mark.parametrize("agreement", [(), (1,), (1, 1)], ids=["none", "one", "the same twice"])
def test_fewer_than_two_agreed_candidates_demonstrate_nothing(agreement: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Found"):
        dynamic_demonstration("instruction", ["a", "b"], agreement, seed=0)


@pytest.mark.parametrize(
    ("icl", "capacity", "expected"),
    [
        ("full", 2, (STATIC_DEMONSTRATION, numbered(2), numbered(3))),
        ("full", 9, (STATIC_DEMONSTRATION, numbered(1), numbered(2), numbered(3))),
        ("full", 0, (STATIC_DEMONSTRATION,)),
        ("static", 2, (STATIC_DEMONSTRATION,)),
        ("off", 2, ()),
    ],
    ids=["newest two", "all", "no room", "without D2", "without ICL"],
)
def test_the_static_demonstration_comes_first_and_the_newest_last(
    icl: InContextLearning, capacity: int, expected: tuple[Demonstration, ...]
) -> None:
    pool = [numbered(1), numbered(2), numbered(3)]
    assert select_demonstrations(icl, pool, capacity) == expected


def test_a_pool_numbers_demonstrations_in_the_order_of_admission_and_shows_the_selected_ones() -> None:
    pool = DemonstrationPool("full", capacity=2)
    for number in (1, 2, 3):
        assert pool.admit(step=0, round_=number, demonstration=numbered(number)).number == number
    assert pool.shown(step=1) == ((0, STATIC_DEMONSTRATION), (2, numbered(2)), (3, numbered(3)))


def test_a_pool_of_step_scope_shows_only_this_steps_demonstrations() -> None:
    pool = DemonstrationPool("full", capacity=5, scope="step")
    pool.admit(0, 1, numbered(1))
    pool.admit(1, 1, numbered(2))
    pool.admit(0, 2, numbered(3))
    assert [number for number, _ in pool.shown(step=0)] == [0, 1, 3]
    assert [number for number, _ in pool.shown(step=1)] == [0, 2]
    assert [number for number, _ in pool.shown(step=2)] == [0]


def test_a_pool_admits_without_showing_when_dynamic_demonstrations_are_off() -> None:
    pool = DemonstrationPool("static", capacity=5)
    pool.admit(0, 1, numbered(1))
    assert [number for number, _ in pool.shown(step=0)] == [0]
    assert len(pool.admitted) == 1


@given(st.lists(st.integers(0, 3), max_size=8), st.integers(0, 4), st.randoms())
def test_a_pool_from_records_is_the_pool_that_lived_through_them(
    steps: list[int], capacity: int, chance: random.Random
) -> None:
    lived = DemonstrationPool("full", capacity, "step")
    records = [lived.admit(step, 1, numbered(place)) for place, step in enumerate(steps)]
    chance.shuffle(records)
    restored = DemonstrationPool("full", capacity, "step", records)
    assert restored.admitted == lived.admitted
    assert [restored.shown(step) for step in range(4)] == [lived.shown(step) for step in range(4)]
    assert restored.admit(9, 1, numbered(9)) == lived.admit(9, 1, numbered(9))


def test_a_pool_with_a_gap_in_its_records_is_refused() -> None:
    with pytest.raises(ValueError, match="without a gap"):
        DemonstrationPool("full", 5, "run", [AdmittedDemonstration(2, 0, 1, numbered(2))])
