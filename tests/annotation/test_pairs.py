"""Who sees which pair, in which order, and what is remembered."""

from dataclasses import replace

import pytest

from cyclealign.annotation.pairs import PairQueue, ResponsePair, clean_name
from cyclealign.errors import StorageFull, UsageError
from tests.annotation.conftest import MemoryStore, pair


def next_of(queue: PairQueue, annotator: str) -> ResponsePair:
    shown = queue.next_pair(annotator)
    assert shown is not None
    return shown


def judge(queue: PairQueue, annotator: str, count: int) -> None:
    for _ in range(count):
        queue.judge(annotator, next_of(queue, annotator), "first")


def test_the_order_is_a_coin_for_each_annotator_and_prompt_and_always_falls_the_same() -> None:
    shown = [pair(number).shown_to("Ann") for number in range(200)]
    assert 70 < sum(one.responses[0].text.startswith("Old") for one in shown) < 130
    others = [pair(number).shown_to("Ben") for number in range(200)]
    assert 70 < sum(one != other for one, other in zip(shown, others, strict=True)) < 130
    turned = [replace(pair(number), responses=pair(number).responses[::-1]) for number in range(200)]
    assert shown == [one.shown_to("Ann") for one in turned]


def test_the_id_of_a_pair_is_another_for_each_annotator_and_holds_no_id_of_a_response(queue: PairQueue) -> None:
    ids = [pair(number).id_for(name) for number in range(50) for name in ("Ann", "Ben")]
    assert len(set(ids)) == 100
    assert not any("generation" in one for one in ids)
    assert queue.find("Ann", ids[0]) == pair(0).shown_to("Ann")
    assert queue.find("Ben", ids[0]) is None


def test_pairs_come_in_the_same_order_for_everybody_each_once(queue: PairQueue) -> None:
    judge(queue, "Ann", 2)
    assert next_of(queue, "Ann").turns[0].text == "Question 2"
    assert next_of(queue, "Ben").turns[0].text == "Question 0"
    judge(queue, "Ann", 2)
    assert queue.next_pair("Ann") is None
    assert (queue.judged("Ann"), queue.judged("Ben"), len(queue)) == (4, 0, 4)


def test_a_new_queue_goes_on_where_the_store_says(queue: PairQueue, store: MemoryStore) -> None:
    judge(queue, "Ann", 3)
    again = PairQueue([pair(number) for number in range(4)], store)
    assert again.next_pair("Ann") == queue.next_pair("Ann")
    assert again.last_pair("Ann") == queue.last_pair("Ann") == pair(2).shown_to("Ann")


def test_an_undone_verdict_is_gone_and_its_pair_comes_up_again(queue: PairQueue, store: MemoryStore) -> None:
    judge(queue, "Ann", 2)
    last = queue.last_pair("Ann")
    assert last is not None
    queue.withdraw("Ann", last)
    queue.withdraw("Ann", last)
    assert next_of(queue, "Ann") == last
    assert len(store.kept) == 1


def test_a_verdict_that_was_not_stored_is_not_remembered(queue: PairQueue, store: MemoryStore) -> None:
    store.full = True
    with pytest.raises(StorageFull):
        judge(queue, "Ann", 1)
    assert queue.judged("Ann") == 0


def test_a_name_has_one_spelling() -> None:
    assert clean_name("  Zo\u0065\u0308  Q ") == "Zoë Q"


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\x1b[31m", "a\u202eb"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="annotator's name"):
        clean_name(name)
