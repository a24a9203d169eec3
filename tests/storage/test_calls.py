"""The protocol of paid calls: what is committed when, what is counted, what is never asked again."""

import threading
from decimal import Decimal

import pytest

from cyclealign.errors import BudgetReached
from cyclealign.records import ChatReply
from storage import calls
from storage.calls import Attempt
from storage.ledger import Ledger
from tests.storage.conftest import RunScript

REPLY = ChatReply('{"choices": []}', "a ranking", None, "stop", "model-2026", 120, 30)


def call_of(reserved: str = "0.01", slot: int = 0, run_name: str = "a-run") -> Attempt:
    body = {"model": "a-model", "messages": [{"role": "user", "content": "Rank."}], "temperature": 0.2}
    key = calls.call_key(body, "http://here", (slot,))
    known = ("ranking", "a-model", "http://here", (slot,), 3, 1, 1, body)
    return Attempt(key, run_name, *known, Decimal(reserved))


def test_a_call_that_was_never_asked_is_not_found(ledger: Ledger) -> None:
    assert calls.find(ledger, "nothing") is None


def test_an_answer_is_found_as_it_came_with_its_cost_and_verdict(ledger: Ledger) -> None:
    call = call_of()
    attempt = calls.begin_attempt(ledger, call, cap=None)
    assert calls.find(ledger, call.call_key) is None
    calls.settle(ledger, attempt, REPLY, Decimal("0.002"))
    calls.record_verdicts(ledger, {call.call_key: "accepted"})
    found = calls.find(ledger, call.call_key)
    assert found is not None
    assert (found.run_name, found.state, found.reply, found.cost_usd) == ("a-run", "answered", REPLY, Decimal("0.002"))
    row = ledger.query("select state, verdict, served_model, cost_usd from api_calls").iloc[0]
    assert (row["state"], row["verdict"], row["served_model"]) == ("answered", "accepted", "model-2026")


def test_an_answer_is_never_replaced_by_a_later_one(ledger: Ledger) -> None:
    call = call_of()
    first = calls.begin_attempt(ledger, call, cap=None)
    second = calls.begin_attempt(ledger, call, cap=None)
    calls.settle(ledger, first, REPLY, Decimal("0.002"))
    other = ChatReply("{}", "another ranking", None, "stop", None, 120, 30)
    calls.settle(ledger, second, other, Decimal("0.003"))
    found = calls.find(ledger, call.call_key)
    assert found is not None
    assert found.reply == REPLY
    assert calls.spend(ledger, "a-run") == Decimal("0.005")


@pytest.mark.parametrize("state", ["refused", "truncated", "rejected"])
def test_what_is_no_answer_is_kept_under_its_state(ledger: Ledger, state: calls.SettledState) -> None:
    call = call_of()
    attempt = calls.begin_attempt(ledger, call, cap=None)
    calls.settle(ledger, attempt, REPLY, Decimal("0.002"), state)
    found = calls.find(ledger, call.call_key)
    assert found is not None
    assert (found.state, found.reply) == (state, REPLY)


def test_a_call_that_the_endpoint_will_never_accept_is_closed(ledger: Ledger) -> None:
    call = call_of()
    attempt = calls.begin_attempt(ledger, call, cap=None)
    calls.fail_attempt(ledger, attempt, "bad_request", 400, rejection="no such parameter")
    found = calls.find(ledger, call.call_key)
    assert found is not None
    assert (found.state, found.failure) == ("rejected", "bad_request")
    assert found.reply is not None
    assert found.reply.raw == "no such parameter"
    assert ledger.query("select state from api_attempts")["state"].tolist() == ["failed"]


def test_spend_counts_the_reserve_until_the_cost_is_known(ledger: Ledger) -> None:
    attempt = calls.begin_attempt(ledger, call_of("0.01"), cap=None)
    assert calls.spend(ledger, "a-run") == Decimal("0.01")
    calls.settle(ledger, attempt, REPLY, Decimal("0.002"))
    assert calls.spend(ledger, "a-run") == Decimal("0.002")
    failed = calls.begin_attempt(ledger, call_of("0.01", 1), cap=None)
    calls.fail_attempt(ledger, failed, "rate_limit", 429)
    assert calls.spend(ledger, "a-run") == Decimal("0.002")
    assert calls.spend(ledger, "another-run") == 0


def test_the_cap_counts_reserves_and_records_nothing_when_it_is_reached(ledger: Ledger) -> None:
    calls.begin_attempt(ledger, call_of("0.6", 0), cap=Decimal(1))
    with pytest.raises(BudgetReached, match=r"\$0\.6000.*\$0\.6000.*\$1\.0000 in all.*budget_usd=2\.00"):
        calls.begin_attempt(ledger, call_of("0.6", 1), cap=Decimal(1))
    assert calls.find(ledger, call_of(slot=1).call_key) is None
    calls.begin_attempt(ledger, call_of("0.4", 2), cap=Decimal(1))


def test_concurrent_attempts_never_exceed_the_cap_together(ledger: Ledger) -> None:
    outcomes: list[bool] = []

    def ask(slot: int) -> None:
        try:
            calls.begin_attempt(ledger, call_of("0.1", slot), cap=Decimal("0.55"))
            outcomes.append(True)
        except BudgetReached:
            outcomes.append(False)

    threads = [threading.Thread(target=ask, args=(slot,)) for slot in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(outcomes) == 5
    assert calls.spend(ledger, "a-run") == Decimal("0.5")


def test_attempts_of_a_dead_process_become_unknown_and_cost_their_reserve(ledger: Ledger, script: RunScript) -> None:
    mine = calls.begin_attempt(ledger, call_of("0.01", 0), cap=None)
    process = script(
        """
        import os, signal, sys
        from decimal import Decimal
        from pathlib import Path
        from storage import calls
        from storage.ledger import Ledger
        from tests.storage.test_calls import call_of
        ledger = Ledger(Path(sys.argv[1]))
        calls.begin_attempt(ledger, call_of("0.25", 1), cap=None)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        ledger.home,
    )
    process.wait()
    assert calls.close_orphans(ledger, "a-run") == 1
    assert calls.close_orphans(ledger, "a-run") == 0
    assert calls.spend(ledger, "a-run") == Decimal("0.26")
    calls.settle(ledger, mine, REPLY, Decimal(0))
    assert calls.spend(ledger, "a-run") == Decimal("0.25")
    again = calls.begin_attempt(ledger, call_of("0.25", 1), cap=None)
    calls.settle(ledger, again, REPLY, Decimal("0.1"))
    assert calls.spend(ledger, "a-run") == Decimal("0.35")


def test_an_answer_that_another_process_bought_is_found_at_once(ledger: Ledger, script: RunScript) -> None:
    assert calls.find(ledger, call_of().call_key) is None
    process = script(
        """
        import sys
        from decimal import Decimal
        from pathlib import Path
        from storage import calls
        from storage.ledger import Ledger
        from tests.storage.test_calls import REPLY, call_of
        ledger = Ledger(Path(sys.argv[1]))
        for slot in (0, 1):
            calls.settle(ledger, calls.begin_attempt(ledger, call_of("1", slot), None), REPLY, Decimal(1))
            print("bought", flush=True)
            sys.stdin.readline()
        """,
        ledger.home,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    for slot in (0, 1):
        assert process.stdout.readline() == "bought\n"
        found = calls.find(ledger, call_of(slot=slot).call_key)
        assert found is not None
        assert found.reply == REPLY
        process.stdin.write("\n")
        process.stdin.flush()
        ledger.post()
