"""A process that is cut short leaves what was asked for; the times of a continuation, from a ledger and by hand."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.laptop_run import RUN
from benchmarks.prefect_share import ROOT
from benchmarks.resuming import RECORDED, Continuation, read, rows_of
from storage import resumptions, rounds, runs
from storage.asking import answer
from storage.ledger import Ledger
from tests.storage.values import new_run, ranked, sampled, trained

ONE = Continuation(
    started=100.0, resumed=110.0, new_begun=112.0, new_sampled=112.5, replayed=RECORDED, live_seconds=8.0
)
PROGRAM = """
import sys
from pathlib import Path
from benchmarks.cut_short import set_trap
from storage.ledger import Ledger
from tests.benchmarks.test_resuming import record

set_trap(2)
for step in range(9):
    record(Ledger(Path(sys.argv[1])), step)
"""


def record(ledger: Ledger, step: int) -> None:
    """Everything of a round."""
    rounds.record_sampled(ledger, RUN, [sampled(step, wave=step)])
    rounds.record_ranked(ledger, RUN, [ranked(step)])
    rounds.record_trained(ledger, RUN, [trained(step)])


def test_a_process_is_killed_behind_the_turn_that_it_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    found, _ = answer(tmp_path, "select step, state from rounds order by step")
    assert found.to_numpy().tolist() == [[0, "trained"], [1, "trained"]]


def test_the_times_of_a_continuation_are_read_from_the_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    runs.register(ledger, new_run(RUN))
    for step in range(3):  # the first one lies before the checkpoint
        record(ledger, step)
    resumption = resumptions.begin(ledger, RUN, checkpoint_step=1)
    assert resumption is not None
    for step in (1, 2):
        resumption.turn_done([sampled(step)], [trained(step)], replayed=True)
    record(ledger, 3)
    resumption.turn_done([sampled(3)], [trained(3)], replayed=False)
    ledger.close()
    found = read(tmp_path, started=5.0)
    times, _ = answer(
        tmp_path, "select step, epoch(sampled_at) as sampled, epoch(trained_at) as trained from rounds order by step"
    )
    assert (found.started, found.replayed) == (5.0, 2)
    assert found.new_sampled == pytest.approx(times["sampled"][3])
    assert found.new_begun == pytest.approx(times["sampled"][3] - 0.25 - 0.125, abs=1e-5)
    first_begun = times["sampled"][1] - 0.25 - 0.125
    assert found.live_seconds == pytest.approx(times["trained"][2] - first_begun, abs=1e-5)
    assert times["trained"][2] <= found.resumed <= times["sampled"][3]


def test_the_rows_are_the_time_to_the_first_new_round_and_the_cost_of_a_replayed_one() -> None:
    seconds, ratio = rows_of([ONE, replace(ONE, started=90.0, live_seconds=4.0)])
    assert (seconds.values, seconds.unit) == ((12.5, 22.5), "s")
    assert "15.0 s until the checkpoint was loaded" in (seconds.note or "")
    assert ratio.values == (0.25, 0.5)
    assert (ratio.note or "").startswith("62 ms against 188 ms; step 832 of 1000, 32 rounds")


def test_a_continuation_that_replayed_something_else_is_no_figure() -> None:
    with pytest.raises(RuntimeError, match=r"Found \[24, 32\] replayed rounds, expected 32"):
        rows_of([ONE, replace(ONE, replayed=24)])
