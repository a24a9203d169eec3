"""What a person sees while a run goes on: in a file, on the run page, in a terminal."""

import os
import pty
import subprocess
import sys
from decimal import Decimal

import pytest

from storage.rounds import RankedRound, SampledRound
from tasks.cycle.progress import Occasion, Pace, Progress, stage
from tests.storage.values import ranked, sampled


def turn(progress: Progress, *steps: int, replayed: bool = False) -> None:
    rounds: list[tuple[SampledRound, RankedRound]] = [(sampled(step, 2), ranked(step, 2)) for step in steps]
    progress.turn_done([one for one, _ in rounds], [one for _, one in rounds], [], replayed=replayed)


def test_a_file_gets_a_line_at_the_start_and_one_at_the_end_and_not_one_per_round(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = Progress(steps=6, candidates=3)
    with progress.showing():
        for step in range(6):
            turn(progress, step)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "step 6/6" in lines[-1]
    assert "agreement" in lines[-1]


def test_the_run_page_is_told_the_first_state_and_the_last() -> None:
    told: list[tuple[str, float]] = []
    progress = Progress(steps=4, candidates=3, publish=lambda text, share: told.append((text, share)))
    for step in range(4):
        turn(progress, step)
    assert [share for _, share in told] == [0.25, 1.0]


def test_the_line_tells_agreement_quality_reward_and_spend() -> None:
    told: list[str] = []
    progress = Progress(
        steps=4,
        candidates=3,
        quality=lambda _: 0.25,
        spend=lambda: Decimal("1.5"),
        publish=lambda text, _: told.append(text),
        pace=Pace(iter((0.0, 30.0)).__next__),
    )
    progress.pace.mark(0)
    progress.reward = -0.125
    turn(progress, 0)
    assert told == ["step 1/4 · round 2 · agreement 0.67 · quality 0.25 · reward -0.12 · $1.50 · 1 min 30 s left"]


def test_the_time_left_after_a_resumption_follows_what_is_done_and_not_what_was_replayed() -> None:
    moments = iter([0.0, *range(1, 6), 65.0])
    progress = Progress(steps=10, candidates=3, pace=Pace(moments.__next__))
    with progress.showing():
        for step in range(5):
            turn(progress, step, replayed=True)
        turn(progress, 5)
    assert progress.pace.left_s(progress.steps) == 4 * 60.0


def test_what_is_left_follows_the_pace_of_what_was_done_last() -> None:
    pace = Pace(iter((0.0, 10.0, 20.0)).__next__)
    assert pace.left_s(8) is None
    pace.mark(2)  # where a continued run begins
    assert pace.left_s(8) is None
    pace.mark(4)
    pace.mark(6)
    assert pace.left_s(8) == 10.0
    assert pace.left_s(6) == 0.0


IN_A_TERMINAL = """
from tests.tasks.test_progress import turn
from tasks.cycle.progress import Progress
progress = Progress(steps=2, candidates=3)
with progress.showing():
    turn(progress, 0)
    turn(progress, 1)
"""


def test_a_terminal_shows_a_bar_with_the_state_and_the_time() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "140"}
    with subprocess.Popen([sys.executable, "-c", IN_A_TERMINAL], stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = read_all(ours)
    assert process.returncode == 0
    for words in ("cycles", "2/2", "agreement 0.67", "0:00:00"):
        assert words in shown


def read_all(terminal: int) -> str:
    """What a terminal shows until the last process closes it."""
    shown = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # Linux says so instead of an end of file
            part = b""
        if not part:
            os.close(terminal)
            return shown.decode()
        shown += part


def test_a_stage_says_its_title_and_where_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    with stage("Fitting") as report:
        for step in range(50):
            report("pairs", step / 50)
    assert capsys.readouterr().err.splitlines() == ["Fitting", "  pairs 0%"]


def test_an_occasion_comes_once_in_its_time_and_when_forced() -> None:
    occasion = Occasion(3600)
    assert [occasion.comes(), occasion.comes(), occasion.comes(forced=True), occasion.comes()] == [
        True,
        False,
        True,
        False,
    ]
