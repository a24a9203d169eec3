"""Calls through a Batch API, over real HTTP: planned before they are sent, bought once, whoever is killed when."""

import json
import signal
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cyclealign.black_box.prices import Prices
from cyclealign.errors import BudgetReached, RunPaused, UsageError
from cyclealign.records import ChatReply
from cyclealign.settings import BatchSettings
from storage import calls
from storage.ledger import Ledger
from tasks.asking.batching import Batches
from tasks.asking.protocol import Account, Direct
from tasks.asking.questions import Asker, Result, asker_of
from tests.black_box.model_server import ModelServer
from tests.forks import fork
from tests.tasks import asked
from tests.tasks.asked import QUICK, account, question, request, rows, spent

BATCHES = BatchSettings(enabled=True, poll_s=0.05)
COST = asked.COST / 2


@pytest.fixture
def provider(server: ModelServer) -> ModelServer:
    """Repeats what it was asked."""
    server.say = lambda body: f"Heard {body['messages'][-1]['content']}."
    return server


def ask(of: Account, *texts: str, directly: bool = False) -> list[Result[ChatReply]]:
    with Asker(Direct(of, QUICK) if directly else Batches(of, BATCHES, QUICK)) as asker:
        return asker.ask([question(0, text) for text in texts])


def said(results: list[Result[ChatReply]]) -> list[str | None]:
    """What came back, or the reason why nothing did."""
    return [one.answer.content if one.answer else one.reason for one in results]


def lines_sent(server: ModelServer) -> list[str]:
    """The text of each call in the files that went up, file by file."""
    files = [text for text in server.files.values() if '"method"' in text]
    return [json.loads(line)["body"]["messages"][0]["content"] for text in files for line in text.splitlines()]


def worst_case(of: Account, text: str) -> Decimal:
    return Prices(of.settings, Decimal("0.5")).reserve_usd(request(0, text)[0])


def test_all_calls_go_in_one_batch_at_half_the_price(ledger: Ledger, provider: ModelServer) -> None:
    assert said(ask(account(ledger, provider), "a", "b", "c")) == ["Heard a.", "Heard b.", "Heard c."]
    assert (len(provider.batches), provider.requests, spent(ledger)) == (1, [], 3 * COST)
    assert rows(ledger, "select state from batches") == [{"state": "collected"}]
    (row,) = rows(ledger, "select distinct state, served_model, verdict from api_calls")
    assert row == {"state": "answered", "served_model": "served-model", "verdict": "accepted"}


def test_what_the_ledger_has_is_not_sent_again_either_way(ledger: Ledger, provider: ModelServer) -> None:
    of = account(ledger, provider)
    ask(of, "a")
    ask(of, "a", "b", "b")
    assert lines_sent(provider) == ["a", "b"]
    assert said(ask(of, "a", "b", directly=True)) == ["Heard a.", "Heard b."]
    assert provider.requests == []


def test_lines_that_failed_have_their_reason_and_cost_nothing(ledger: Ledger, provider: ModelServer) -> None:
    errors: dict[str, dict[str, Any]] = {
        "a": {"response": {"status_code": 400, "body": {"error": {"message": "too long"}}}, "error": None},
        "b": {"response": {"status_code": 500, "body": {}}, "error": None},
        "c": {"response": None, "error": {"code": "batch_expired", "message": "too late"}},
        "d": {},  # no line at all
    }
    provider.unanswered = lambda line: errors.get(line["body"]["messages"][0]["content"])
    of = account(ledger, provider)
    assert said(ask(of, *"abcde")) == ["call_rejected", *["call_failed"] * 3, "Heard e."]
    assert spent(ledger) == COST
    provider.unanswered = lambda _line: None
    assert said(ask(of, *"abcde")) == ["call_rejected", *[f"Heard {one}." for one in "bcde"]]  # a is never sent again


def test_a_batch_that_is_refused_as_a_whole_pauses_and_costs_nothing(ledger: Ledger, provider: ModelServer) -> None:
    provider.refusal = "Enqueued token limit reached"
    with pytest.raises(RunPaused, match="Enqueued token limit reached"):
        ask(account(ledger, provider), "a")
    assert spent(ledger) == 0
    provider.refusal = None
    assert said(ask(account(ledger, provider), "a")) == ["Heard a."]


def test_a_cap_makes_smaller_batches_of_what_fits_and_then_holds(ledger: Ledger, provider: ModelServer) -> None:
    texts = [str(number) * 900 for number in range(4)]
    cap = 2 * worst_case(account(ledger, provider), texts[0])
    assert len(ask(account(ledger, provider, budget_usd=float(cap)), *texts)) == 4
    assert len(provider.batches) > 1
    assert spent(ledger) == 4 * COST
    with pytest.raises(BudgetReached, match=r"black_box\.budget_usd"):
        ask(account(ledger, provider, budget_usd=float(4 * COST)), "a")


def test_the_reserve_is_committed_before_anything_leaves(ledger: Ledger, provider: ModelServer) -> None:
    seen: list[Any] = []

    def look(_event: str) -> None:
        seen.append((rows(Ledger(ledger.home), "select state from batches")[0]["state"], spent(ledger)))

    provider.tell = look
    ask(account(ledger, provider), "a")
    assert seen[0] == ("planned", worst_case(account(ledger, provider), "a"))


@pytest.mark.parametrize(
    ("event", "times"),
    [
        pytest.param("uploaded", 1, id="after the upload, before it is noted"),
        pytest.param("created", 1, id="after the batch was made, before its id is noted"),
        pytest.param("polled", 1, id="while it is under way"),
        pytest.param("polled", 3, id="when it has ended, before its answers are fetched"),
    ],
)
def test_a_killed_process_buys_nothing_twice(ledger: Ledger, provider: ModelServer, event: str, times: int) -> None:
    provider.polls_needed = 3
    heard: list[str] = []

    def due(what: str) -> bool:
        heard.append(what)
        return heard.count(event) == times and what == event

    killed_when(due, ledger, provider)
    assert calls.close_orphans(ledger, "run") == 0  # its attempts live on in the batch
    assert said(ask(account(ledger, provider), *"abc")) == ["Heard a.", "Heard b.", "Heard c."]
    assert (len(provider.batches), spent(ledger)) == (1, 3 * COST)


def send_three(home: Path, url: str) -> None:
    """Calls of run `run`, through a Batch API at this address."""
    ask(account(Ledger(home), ModelServer(url=url)), *"abc")


def killed_when(due: Callable[[str], bool], ledger: Ledger, provider: ModelServer) -> None:
    """A batch of three calls, whose process is killed at the event that is due, before it is answered."""
    victim, started = fork(send_three, ledger.home, provider.url), threading.Event()

    def kill(what: str) -> None:
        if due(what):
            started.wait()
            victim.kill()

    provider.tell = kill
    victim.start()
    started.set()
    victim.join(60)
    assert victim.exitcode == -signal.SIGKILL
    provider.tell = lambda _event: None


@pytest.fixture
def under_way(ledger: Ledger, provider: ModelServer) -> ModelServer:
    """A batch that a killed process of run `run` left at the provider, and that ends at the next poll."""
    provider.polls_needed = 10**6
    killed_when(lambda what: what == "polled", ledger, provider)
    provider.polls_needed = 1
    return provider


def test_a_batch_left_behind_is_finished_before_calls_are_sent_directly(ledger: Ledger, under_way: ModelServer) -> None:
    with asker_of(account(ledger, under_way), BatchSettings(poll_s=0.05), probing=False) as asker:
        assert said(asker.ask([question(0, "a")])) == ["Heard a."]
    assert (len(under_way.batches), under_way.requests) == (1, [])


def test_another_run_waits_for_the_batch_that_holds_what_it_asks(ledger: Ledger, under_way: ModelServer) -> None:
    other = account(ledger, under_way, "other")
    assert said(ask(other, "x")) == ["Heard x."]
    assert rows(ledger, "select state from batches where run_name = 'run'") == [{"state": "submitted"}]
    assert said(ask(other, "b", "y")) == ["Heard b.", "Heard y."]
    assert sorted(lines_sent(under_way)) == ["a", "b", "c", "x", "y"]
    assert (spent(ledger), spent(ledger, "other")) == (3 * COST, 2 * COST)


def test_what_was_bought_since_a_batch_was_planned_is_not_sent(ledger: Ledger, provider: ModelServer) -> None:
    killed_when(lambda what: what == "uploaded", ledger, provider)
    ask(account(ledger, provider, "other"), "a", directly=True)
    assert said(ask(account(ledger, provider), *"abc")) == ["Heard a.", "Heard b.", "Heard c."]
    assert sorted(lines_sent(provider)[3:]) == ["b", "c"]
    assert (len(provider.batches), spent(ledger)) == (1, 2 * COST)


def test_closing_leaves_a_batch_to_the_next_start(ledger: Ledger, provider: ModelServer) -> None:
    provider.polls_needed, polled = 10**6, threading.Event()
    provider.tell = lambda what: polled.set() if what == "polled" else None
    with Asker(Batches(account(ledger, provider), BATCHES, QUICK)) as asker:
        future = asker.submit([question(0, "a")])
        polled.wait()
    with pytest.raises(RunPaused, match="under way"):
        future.result(timeout=0)
    provider.polls_needed = 1
    assert said(ask(account(ledger, provider), "a")) == ["Heard a."]
    assert len(provider.batches) == 1


def test_an_offline_endpoint_takes_no_batches(ledger: Ledger, provider: ModelServer) -> None:
    of = account(ledger, provider)
    offline = Account(ledger, "run", of.settings.model_copy(update={"endpoint": "world"}), of.open_endpoint)
    with pytest.raises(UsageError, match="batches"), asker_of(offline, BATCHES):
        pass
