"""The idle share's arithmetic, on intervals by hand and on times in a ledger; and the rows of runs by hand."""

from pathlib import Path

import pytest

from benchmarks import idle_time
from benchmarks.idle_time import Sides, covered
from benchmarks.slow_judge import Cycle, idle_row, speed_row
from storage import rounds, runs
from storage.asking import answer
from storage.ledger import Ledger
from tests.storage.values import new_run, ranked, sampled, trained

BUSY = Sides(computing=((0.0, 1.0), (1.0, 2.0), (9.0, 10.0)), answers=((1.0, 4.0), (2.0, 3.0), (5.0, 9.5)))


def test_what_overlaps_counts_once_and_what_lies_outside_not() -> None:
    assert covered([(1, 4), (2, 3), (3.5, 5), (7, 8)], within=(0, 10)) == 5
    assert covered([(-3, 1), (9, 12), (20, 30)], within=(0, 10)) == 2
    assert covered([(-3, -1)], within=(0, 10)) == 0
    assert covered([], within=(0, 10)) == 0


def test_the_share_is_that_of_the_side_with_more_work() -> None:
    assert BUSY.wall == (0, 10)
    assert BUSY.busy() == {"computing": 3, "answers": 7.5}
    assert BUSY.slower == "answers"
    assert BUSY.idle_share == pytest.approx(0.25)


def test_a_side_that_is_always_at_work_is_never_idle() -> None:
    computing = Sides(((0.0, 5.0), (5.0, 10.0)), BUSY.answers)
    assert (computing.slower, computing.idle_share) == ("computing", 0.0)


def test_a_waves_seconds_end_when_its_rounds_were_recorded(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    runs.register(ledger, new_run("benchmark"))
    rounds.record_sampled(ledger, "benchmark", [sampled(step) for step in (0, 1)])
    rounds.record_ranked(ledger, "benchmark", [ranked(step) for step in (0, 1)])
    rounds.record_trained(ledger, "benchmark", [trained(step) for step in (0, 1)])
    ledger.close()
    found = idle_time.sides(tmp_path, "benchmark")
    sampling, training = found.computing
    each, _ = answer(
        tmp_path, "select sum(sampling_seconds + scoring_seconds) as s, sum(training_seconds) as t from rounds"
    )
    assert sampling[1] - sampling[0] == pytest.approx(each["s"][0], abs=1e-3)
    assert training[1] - training[0] == pytest.approx(each["t"][0], abs=1e-3)
    assert found.answers == ()


def test_the_rows_are_those_of_the_pairs() -> None:
    one, many = Cycle(28.0, BUSY), Cycle(392.0, BUSY)
    speed, idle = speed_row([(one, many), (one, many)]), idle_row([BUSY, BUSY])
    assert speed.values == (14.0, 14.0)
    assert "392 against 28 prompts per minute" in (speed.note or "")
    assert idle.values == pytest.approx((0.25, 0.25))
    assert idle.missed
    assert idle.note == "of 10 s: computing 3 s, answers outstanding 8 s"
