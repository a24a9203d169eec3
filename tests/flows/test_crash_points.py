"""A run that is killed at every moment that could hurt, one after another, ends as if nothing had happened.

One run goes through all moments in a chain: killed at the first, started again by the same command and killed at the
second, and so on. Each life is a process of its own, through the real flow, with the judge behind HTTP.
"""

import signal
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from cyclealign.seeds import derive_seed
from tests.flows.chain import PRICE, Chain, CountingJudge, new_chain
from tests.flows.conftest import SMALL
from tests.flows.crash_program import Trap
from tests.flows.ended_runs import differing_rows
from tests.flows.lives import asked_again, bought_again, without_cause
from tests.flows.remains import Remains

BY_THE_JUDGE = 3
"""The question at whose arrival the judge kills who asks; the other questions of the wave are under way then."""

RECORD = "storage.ledger:Ledger.record"

MOMENTS: dict[str, Trap | int] = {
    "before a journal is begun": Trap("storage.journal:Journal.append"),
    "while the first model's responses are generated": Trap(RECORD, "after", 2, "Generation("),
    "before the first step": Trap("tasks.cycle.progress:Progress.showing"),
    "while sampling": Trap("cyclealign.white_box.sampling:choose_tokens", number=5),
    "before the samples are recorded": Trap(RECORD, about="SampledRound("),
    "with calls in flight": BY_THE_JUDGE,
    "before an answer is committed": Trap("storage.calls:settle", number=2),
    "after an answer's commit, before it is parsed": Trap("storage.calls:settle", "after", 2),
    "after ranking, before the optimizer step": Trap(RECORD, "after", about="RankedRound("),
    "inside an optimizer step": Trap("torch.optim:AdamW.step", number=2),
    "after the optimizer steps, before they are recorded": Trap(RECORD, number=2, about="TrainedRound("),
    "while a checkpoint is written": Trap("cyclealign.white_box.weights:save_adapter", "after"),
    "before a checkpoint is put in place": Trap("pathlib:Path.replace", about="checkpoints/step-"),
    "after a checkpoint was put in place, before it is recorded": Trap(RECORD, about="Checkpoint("),
    "while journals are posted": Trap("storage.posting:insert"),
    "while a segment's candidates are scored": Trap("storage.response_rewards:put", "after", 2),
    "while a later checkpoint replaces older ones": Trap("shutil:rmtree", about="checkpoints/step-"),
    "after the adapter was written, before it is recorded": Trap("storage.runs:record_adapter"),
    "while the trained model's responses are generated": Trap(RECORD, "after", 2, "Generation("),
    "while rewards are stored": Trap("storage.evaluations:put_reward_scores", number=4),
    "before the run is noted as complete": Trap("storage.runs:finish"),
    "while the report is written": Trap("cyclealign.report.render:markdown"),
    "before the posted ledger is put in place": Trap("pathlib:Path.replace", about="ledger.duckdb"),
    "after everything was posted, before the journals of the dead go": Trap("pathlib:Path.unlink", about=".jsonl"),
}


@pytest.fixture(scope="module")
def judge(world_home: Path) -> Iterator[CountingJudge]:
    server = CountingJudge(world_home, SMALL)
    with server:
        yield server


@pytest.fixture(scope="module")
def whole(world_home: Path, judge: CountingJudge, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The run in one life."""
    whole = new_chain("whole", tmp_path_factory.mktemp("crash-points"), world_home, judge, SMALL)
    whole.go_through(None)
    return whole


@pytest.fixture(scope="module")
def chain(world_home: Path, judge: CountingJudge, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The run through all moments."""
    chain = new_chain("killed", tmp_path_factory.mktemp("crash-points"), world_home, judge, SMALL)
    for moment in (*MOMENTS.values(), None):
        chain.go_through(moment)
    return chain


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_process_was_killed(chain: Chain, moment: str) -> None:
    life = list(MOMENTS).index(moment)
    assert chain.exits[life] == -signal.SIGKILL, chain.said[life]


def test_the_last_life_ends_well(chain: Chain) -> None:
    assert chain.exits[-1] == 0, chain.said[-1]
    assert (chain.home / chain.run / "report" / "report.html").exists()


def test_the_weights_are_those_of_the_uninterrupted_run(whole: Chain, chain: Chain) -> None:
    assert chain.status.state == whole.status.state == "complete"
    assert chain.status.weights_sha256 == whole.status.weights_sha256


def test_the_tables_are_those_of_the_uninterrupted_run(whole: Chain, chain: Chain) -> None:
    assert differing_rows(whole.ended, chain.ended) == {}


def test_no_answered_call_is_asked_again(chain: Chain) -> None:
    assert bought_again(chain.lives) == 0


def test_what_is_asked_again_was_in_flight_when_the_process_died(chain: Chain) -> None:
    assert asked_again(chain.lives).total() > 0
    assert without_cause(chain.lives) == 0


def test_every_request_is_an_attempt_of_the_ledger(chain: Chain) -> None:
    asked = Counter(one.call for one in chain.judge.log_of(chain.run))
    assert asked <= chain.lives[-1].left.attempts


def test_the_ledger_never_claims_less_than_was_spent(chain: Chain) -> None:
    answers = [one for one in chain.judge.log if one.asker == chain.run and one.answered]
    billed = sum(one.prompt_tokens * PRICE["input"] + one.completion_tokens * PRICE["output"] for one in answers)
    assert 0 < Decimal(billed) / 1_000_000 <= chain.lives[-1].left.spend_usd
    assert not chain.lives[-1].left.in_flight


def test_what_is_recorded_is_not_sampled_again(chain: Chain) -> None:
    for before, drawn in zip(chain.lives, chain.drawn[1:], strict=False):
        assert not set(drawn) & sampled_in(before.left)


def sampled_in(left: Remains) -> set[int]:
    return {derive_seed(0, "sample", step, round_) for step, round_ in left.rounds}


def test_what_was_generated_for_the_evaluation_is_not_generated_again(chain: Chain) -> None:
    of_rounds = sampled_in(chain.lives[-1].left)
    generated = [seed for drawn in chain.drawn for seed in drawn if seed not in of_rounds]
    assert len(generated) == 2 * len(set(generated)) == 16  # before and after, eight prompts each


def test_the_file_holds_everything_at_the_end_and_no_journal_is_left(chain: Chain) -> None:
    with duckdb.connect(str(chain.home / "ledger.duckdb"), read_only=True) as connection:
        assert connection.execute("select state from runs").fetchall() == [("complete",)]
    assert list((chain.home / "journal").glob("*.jsonl")) == []
