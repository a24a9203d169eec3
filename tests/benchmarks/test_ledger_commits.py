"""The round that the benchmark commits is a round that the ledger knows, of realistic size."""

from pathlib import Path

from benchmarks.ledger_commits import RoundInLedger
from benchmarks.made_up_round import CANDIDATES, TOKENS, MadeUpRound
from storage import calls, rounds
from storage.ledger import Ledger


def test_a_committed_round_reads_back_as_sampled_asked_ranked_and_trained(tmp_path: Path) -> None:
    ledger, values = Ledger(tmp_path), MadeUpRound("benchmark", step=3)
    one = RoundInLedger(ledger, values)
    for phase in (one.after_sampling, one.after_answer, one.after_training):
        phase()
    found = rounds.recorded(ledger, "benchmark", 0, 10)
    assert list(found) == [(3, 1)]
    assert (found[3, 1].sampled, found[3, 1].ranked) == (values.sampled(), values.ranked())
    assert found[3, 1].trained == values.trained()
    call = calls.find(ledger, values.call.key)
    assert call is not None
    assert (call.state, call.verdict, call.reply) == ("answered", "accepted", values.reply())
    ledger.close()


def test_a_round_has_three_different_responses_of_64_tokens() -> None:
    responses = MadeUpRound("benchmark", step=3).sampled().responses
    assert len({one.text for one in responses}) == CANDIDATES == 3
    assert all(len(one.tokens) == TOKENS == 64 for one in responses)
    assert all(240 < len(one.text) < 340 for one in responses)


def test_every_step_asks_another_question() -> None:
    assert len({MadeUpRound("benchmark", step).call.key for step in range(20)}) == 20
