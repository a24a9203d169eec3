"""What a person sees while a run goes on, where the output is a file and not a terminal."""

import pytest

from storage.round_values import RankedRound, SampledRound
from tasks.progress import Occasion, Progress, stage
from tests.storage.values import ranked, sampled


def turn(progress: Progress, *steps: int) -> None:
    rounds: list[tuple[SampledRound, RankedRound]] = [(sampled(step, 2), ranked(step, 2)) for step in steps]
    progress.turn_done([one for one, _ in rounds], [one for _, one in rounds], [], replayed=False)


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
