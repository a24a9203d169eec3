"""Two waves in alternation: what a run ends with depends neither on latencies nor on where it was killed.

One run is answered at once, another one late and out of order, a third is killed in the middle of an alternation again
and again: at moments at which rounds of two waves are begun and not trained. All have three waves in a segment, and end
when they are complete, before a report is written.
"""

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyclealign.profiles import merge
from storage.asking import answer
from tests.flows.chain import Chain, CountingJudge, new_chain
from tests.flows.conftest import SMALL
from tests.flows.crash_program import Trap
from tests.flows.ended_runs import differing_rows
from tests.flows.lives import asked_again, bought_again, without_cause

WAVE = 2
ALTERNATING: dict[str, Any] = merge(SMALL, {"data": {"prompts": 6}, "evaluation": {"prompts_per_subset": 1}})
ALTERNATING["training"] = {"wave": WAVE, "prompts_per_optimizer_step": 1, "checkpoint_every": 6, "overlap": True}
LATE_S = 0.4, 0.3, 0.0, 0.0
"""Again and again: of two waves that are asked, the first is answered last, and so is its first question."""
HELD_S = 5.0
"""Longer than the other wave takes to be asked."""
MOMENTS: dict[str, Trap | int] = {
    "when the questions of both waves are asked, before any answer": 2 * WAVE,
    "when one wave is ranked and not trained": Trap("storage.ledger:Ledger.record", "after", about="RankedRound("),
    "inside an optimizer step of the other wave, when the one is in its next round": Trap(
        "torch.optim:AdamW.step", number=WAVE + 1
    ),
}
THE_END = Trap("flows.train:publish_report")
OUTSTANDING_WHILE_ANOTHER_WAVE_TRAINS = """
    select count(*) from api_attempts
    inner join api_calls on api_attempts.call_key = api_calls.call_key
    inner join rounds as asking on api_calls.step = asking.step and api_calls.round = asking.round
    inner join rounds as other on asking.wave <> other.wave
    where api_attempts.started_at < other.trained_at and other.trained_at < api_attempts.ended_at
    """


@pytest.fixture(scope="module")
def judge(world_home: Path) -> Iterator[CountingJudge]:
    with CountingJudge(world_home, ALTERNATING) as judge:
        yield judge


@pytest.fixture(scope="module")
def chains(world_home: Path, judge: CountingJudge, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Chain]:
    folder = tmp_path_factory.mktemp("overlap")
    return {name: new_chain(name, folder, world_home, judge, ALTERNATING) for name in ("at-once", "late", "killed")}


@pytest.fixture(scope="module")
def at_once(chains: dict[str, Chain]) -> Chain:
    """Answered at once."""
    chains["at-once"].go_through(THE_END)
    return chains["at-once"]


@pytest.fixture(scope="module")
def late(chains: dict[str, Chain], judge: CountingJudge) -> Chain:
    """Answered late and out of order."""
    judge.delays_s["late"] = itertools.cycle(LATE_S)
    chains["late"].go_through(THE_END)
    return chains["late"]


@pytest.fixture(scope="module")
def killed(chains: dict[str, Chain], judge: CountingJudge) -> Chain:
    """Killed at every moment, one after another."""
    for moment in (*MOMENTS.values(), THE_END):
        judge.delays_s["killed"] = itertools.repeat(HELD_S, moment if isinstance(moment, int) else 0)
        chains["killed"].go_through(moment)
    return chains["killed"]


def test_the_waves_of_these_runs_go_through_several_rounds(at_once: Chain) -> None:
    assert at_once.status.state == "complete", at_once.said
    rounds = at_once.lives[0].left.rounds
    assert {step // WAVE for step, round_ in rounds if round_ == 2} == {0, 1, 2}


def test_answers_of_one_wave_are_outstanding_while_another_trains(late: Chain) -> None:
    assert late.status.state == "complete", late.said
    assert answer(late.home, OUTSTANDING_WHILE_ANOTHER_WAVE_TRAINS).iloc[0, 0] > 0


def test_late_answers_come_in_another_order_than_they_were_asked_for(late: Chain) -> None:
    answered = [one.number for one in late.judge.log if one.asker == late.run and one.answered]
    assert answered != sorted(answered)


def test_latencies_change_neither_a_row_nor_the_weights(at_once: Chain, late: Chain) -> None:
    assert differing_rows(at_once.ended, late.ended) == {}
    assert late.status.weights_sha256 == at_once.status.weights_sha256


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_process_was_killed_with_two_waves_begun_and_not_trained(killed: Chain, moment: str) -> None:
    life = list(MOMENTS).index(moment)
    assert killed.exits[life] == -signal.SIGKILL, killed.said[life]
    rounds = killed.lives[life].left.rounds
    assert len({step // WAVE for (step, _), state in rounds.items() if state != "trained"}) == 2


def test_a_run_that_was_killed_ends_with_the_rows_and_the_weights_of_one_that_was_not(
    at_once: Chain, killed: Chain
) -> None:
    assert killed.status.state == "complete", killed.said[-1]
    assert differing_rows(at_once.ended, killed.ended) == {}
    assert killed.status.weights_sha256 == at_once.status.weights_sha256


def test_only_what_was_in_flight_is_asked_again(killed: Chain) -> None:
    assert bought_again(killed.lives) == 0
    assert asked_again(killed.lives).total() > 0
    assert without_cause(killed.lives) == 0
