"""The accounts that are kept of killed runs find what they are there to find."""

from collections import Counter

from tests.flows.lives import Life, again_after, asked_again, bought_again, lost, without_cause
from tests.flows.remains import Remains


def life(asked: str, answered: str, in_flight: dict[int, str] | None = None) -> Life:
    """Calls are letters; the ledger knows those that were answered and those in flight."""
    calls = Counter(set(answered) | set((in_flight or {}).values()))
    return Life(Counter(asked), Remains(calls=calls, answered=Counter(answered), in_flight=in_flight or {}))


def test_a_call_that_was_in_flight_may_be_asked_once_more() -> None:
    lives = [life("ab", "a", {2: "b"}), life("b", "ab")]
    assert asked_again(lives) == {"b": 1}
    assert (bought_again(lives), without_cause(lives), again_after(lives, 0)) == (0, 0, 1)


def test_an_answered_call_that_is_asked_again_is_found() -> None:
    assert bought_again([life("ab", "ab"), life("a", "ab")]) == 1


def test_a_call_that_is_asked_again_without_having_been_in_flight_is_found() -> None:
    assert without_cause([life("ab", "a", {2: "b"}), life("bb", "ab")]) == 1
    assert without_cause([life("aa", "a")]) == 1


def test_what_was_lost_before_is_not_lost_again_by_a_life_that_dies_early() -> None:
    lives = [life("b", "", {1: "b"}), life("", "", {1: "b"}), life("b", "b")]
    assert [lost(lives, number).total() for number in range(3)] == [1, 0, 0]
    assert without_cause([*lives[:2], life("bb", "b")]) == 1


def test_an_attempt_that_was_committed_but_never_sent_repeats_nothing() -> None:
    lives = [life("", "", {1: "b"}), life("b", "b")]
    assert (asked_again(lives).total(), again_after(lives, 0)) == (0, 0)
