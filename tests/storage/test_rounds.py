"""Rounds come back from the ledger exactly as they were recorded."""

import dataclasses
import math

from cyclealign.method.demonstrations import STATIC_DEMONSTRATION
from storage import rounds
from storage.ledger import Ledger
from storage.rounds import RecordedRound, StaticDemonstration
from tests.storage.values import ranked, sampled, trained, unranked


def test_nothing_is_recorded_before_the_first_round(ledger: Ledger) -> None:
    assert rounds.recorded(ledger, "a-run", 0, 10) == {}
    assert rounds.demonstrations(ledger, "a-run", before_step=10) == []


def test_a_round_is_recorded_in_three_stages_and_comes_back_equal(ledger: Ledger) -> None:
    ledger.record(sampled(0), sampled(1))
    assert rounds.recorded(ledger, "a-run", 0, 2) == {
        (0, 1): RecordedRound(sampled(0), None, None),
        (1, 1): RecordedRound(sampled(1), None, None),
    }
    ledger.record(ranked(0, number=1), unranked(1))
    assert rounds.recorded(ledger, "a-run", 0, 2) == {
        (0, 1): RecordedRound(sampled(0), ranked(0, number=1), None),
        (1, 1): RecordedRound(sampled(1), unranked(1), None),
    }
    ledger.record(trained(0))
    assert rounds.recorded(ledger, "a-run", 0, 1) == {
        (0, 1): RecordedRound(sampled(0), ranked(0, number=1), trained(0))
    }


def test_log_probabilities_and_losses_come_back_bit_by_bit(ledger: Ledger) -> None:
    tiny = math.nextafter(-0.1, -1)
    exact = dataclasses.replace(
        sampled(0),
        log_probabilities=tuple(
            dataclasses.replace(one, total=tiny * (slot + 1)) for slot, one in enumerate(sampled(0).log_probabilities)
        ),
    )
    ledger.record(exact)
    ledger.record(ranked(0))
    ledger.record(trained(0, loss=math.nextafter(1.0, 2)))
    found = rounds.recorded(ledger, "a-run", 0, 1)[0, 1]
    assert found.sampled == exact
    assert found.trained is not None
    assert found.trained.loss == math.nextafter(1.0, 2)


def test_only_the_steps_asked_for_and_only_this_run_come_back(ledger: Ledger) -> None:
    ledger.record(*(sampled(step) for step in range(4)))
    ledger.record(sampled(1, 2, run_name="another"))
    assert list(rounds.recorded(ledger, "a-run", 1, 3)) == [(1, 1), (2, 1)]


def test_a_replayed_round_keeps_the_record_of_its_first_time(ledger: Ledger) -> None:
    ledger.record(sampled(0))
    ledger.record(ranked(0))
    ledger.record(trained(0, loss=1.0))
    ledger.record(trained(0, loss=2.0))
    found = rounds.recorded(ledger, "a-run", 0, 1)[0, 1].trained
    assert found is not None
    assert found.loss == 1.0


def test_the_black_boxs_ranks_are_noted_at_the_candidates(ledger: Ledger) -> None:
    ledger.record(sampled(0))
    ledger.record(ranked(0))
    frame = ledger.query("select slot, black_box_rank, white_box_rank from responses where slot >= 0 order by slot")
    assert frame.to_dict("list") == {"slot": [0, 1, 2], "black_box_rank": [0, 2, 1], "white_box_rank": [0, 1, 2]}


def test_the_pool_is_rebuilt_from_what_was_admitted_before_a_step(ledger: Ledger) -> None:
    ledger.record(*2 * [StaticDemonstration("a-run", STATIC_DEMONSTRATION)])
    ledger.record(*(sampled(step) for step in range(3)))
    ledger.record(ranked(0, number=1), ranked(1), ranked(2, number=2))
    assert rounds.demonstrations(ledger, "a-run", before_step=9) == [
        ranked(0, number=1).admitted,
        ranked(2, number=2).admitted,
    ]
    assert rounds.demonstrations(ledger, "a-run", before_step=2) == [ranked(0, number=1).admitted]
