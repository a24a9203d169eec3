"""Who sees which pair, in which order, and what is remembered."""

import pytest

from cyclealign.annotation.desk import Desk, clean_name, show
from cyclealign.errors import LedgerLocked, UsageError
from tests.annotation.conftest import MemoryStore, pair


def judge_all(desk: Desk, annotator: str, verdicts: str) -> None:
    for letter in verdicts:
        shown = desk.next_pair(annotator)
        assert shown is not None
        desk.judge(annotator, shown, {"1": "first", "2": "second", "0": "tie"}[letter])  # type: ignore[arg-type]


def test_the_order_is_a_coin_for_each_annotator_and_prompt_and_always_falls_the_same() -> None:
    shown = [show(pair(number), "Ann") for number in range(200)]
    old_first = sum(one.first.text.startswith("Old") for one in shown)
    assert 70 < old_first < 130
    assert shown == [show(pair(number), "Ann") for number in range(200)]
    others = [show(pair(number), "Ben") for number in range(200)]
    assert 70 < sum(one.first != other.first for one, other in zip(shown, others, strict=True)) < 130


def test_the_order_does_not_depend_on_how_the_systems_were_named() -> None:
    one = pair(1)
    turned = type(one)(one.prompt_id, one.turns, (one.responses[1], one.responses[0]))
    assert show(one, "Ann") == show(turned, "Ann")


def test_the_id_of_a_pair_is_another_for_each_annotator_and_holds_no_id_of_a_response() -> None:
    ids = [show(pair(number), name).pair_id for number in range(50) for name in ("Ann", "Ben")]
    assert len(set(ids)) == 100
    assert not any("generation" in one for one in ids)


def test_pairs_come_in_the_same_order_for_everybody_each_once(desk: Desk) -> None:
    judge_all(desk, "Ann", "12")
    shown = desk.next_pair("Ann")
    assert shown is not None
    assert shown.turns[0].text == "Question 2"
    first = desk.next_pair("Ben")
    assert first is not None
    assert first.turns[0].text == "Question 0"
    judge_all(desk, "Ann", "00")
    assert desk.next_pair("Ann") is None
    assert (desk.progress("Ann").judged, desk.progress("Ben").judged, desk.progress("Ben").total) == (4, 0, 4)


def test_a_new_desk_goes_on_where_the_store_says(desk: Desk, store: MemoryStore) -> None:
    judge_all(desk, "Ann", "120")
    again = Desk([pair(number) for number in range(4)], store)
    assert again.next_pair("Ann") == desk.next_pair("Ann")
    assert again.last_pair("Ann") == desk.last_pair("Ann")


def test_an_undone_verdict_is_gone_and_its_pair_comes_up_again(desk: Desk, store: MemoryStore) -> None:
    judge_all(desk, "Ann", "12")
    last = desk.last_pair("Ann")
    assert last is not None
    desk.withdraw("Ann", last)
    desk.withdraw("Ann", last)
    assert desk.next_pair("Ann") == last
    assert len(store.kept) == 1


def test_a_verdict_that_was_not_stored_is_not_remembered(desk: Desk, store: MemoryStore) -> None:
    store.locked = True
    shown = desk.next_pair("Ann")
    assert shown is not None
    with pytest.raises(LedgerLocked):
        desk.judge("Ann", shown, "first")
    assert desk.next_pair("Ann") == shown
    assert desk.progress("Ann").judged == 0


def test_a_pair_is_found_by_its_annotator_alone(desk: Desk) -> None:
    shown = desk.next_pair("Ann")
    assert shown is not None
    assert desk.find("Ann", shown.pair_id) == shown
    assert desk.find("Ben", shown.pair_id) is None


def test_a_name_has_one_spelling() -> None:
    assert clean_name("  Zo\u0065\u0308  Q ") == "Zoë Q"


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\x1b[31m", "a\u202eb"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="annotator's name"):
        clean_name(name)
