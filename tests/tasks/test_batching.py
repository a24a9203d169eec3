"""Calls through a Batch API, over real HTTP: planned before they are sent, bought once, whoever is killed when."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cyclealign.black_box.prices import Prices
from cyclealign.errors import BudgetReached, CallFailed, CallRejected, RunPaused, UsageError
from cyclealign.records import ChatReply, ChatRequest, Message
from cyclealign.settings import BatchSettings
from storage import calls
from storage.ledger import Ledger
from tasks.asking.batching import BatchChannel, channel_for
from tasks.asking.channels import Account, DirectChannel
from tasks.evaluation.comparison import play
from tests.forks import fork
from tests.serving import serving
from tests.tasks.evaluated import account, longer_wins, match, pairs
from tests.tasks.model_server import ModelServer
from tests.tasks.paid_calls import PRICE, QUICK

BATCHES = BatchSettings(enabled=True, poll_s=0.05)
COST = Decimal("0.12") / 2
"""Of a call at the server's usage, our price, and half of it."""


@pytest.fixture
def provider() -> Iterator[ModelServer]:
    with serving(ModelServer(lambda body: f"Heard {body['messages'][-1]['content']}.")) as server:
        yield server


def request(number: int) -> ChatRequest:
    return ChatRequest("comparison", "some-model", (Message("user", f"call {number}"),), {"max_tokens": 20}, (number,))


def channel(ledger: Ledger, server: ModelServer, **changes: Any) -> BatchChannel:
    return BatchChannel(account(ledger, server, **{"price": PRICE, **changes}), BATCHES, QUICK)


def contents(outcomes: list[Any]) -> list[Any]:
    return [one.content if isinstance(one, ChatReply) else one.kind for one in outcomes]


def rows(ledger: Ledger, statement: str) -> list[tuple[Any, ...]]:
    frame, _ = ledger.query_anywhere(statement)
    return list(frame.itertuples(index=False, name=None))


def test_all_calls_go_in_one_batch_at_half_the_price(ledger: Ledger, provider: ModelServer) -> None:
    outcomes = channel(ledger, provider).outcomes([request(number) for number in range(3)])
    assert contents(outcomes) == ["Heard call 0.", "Heard call 1.", "Heard call 2."]
    assert (len(provider.batches), provider.asked) == (1, [])
    assert calls.spend(ledger, "run") == 3 * COST
    assert rows(ledger, "select state from batches") == [("collected",)]
    assert rows(ledger, "select distinct state, served_model from api_calls") == [("answered", "served")]


def test_what_the_ledger_has_is_not_sent_again_by_either_channel(ledger: Ledger, provider: ModelServer) -> None:
    batched = channel(ledger, provider)
    batched.outcomes([request(0)])
    batched.outcomes([request(0), request(1), request(1)])
    assert [len(text.splitlines()) for name, text in provider.files.items() if '"method"' in text] == [1, 1]
    direct = DirectChannel(batched.account, QUICK)
    assert contents(direct.outcomes([request(0), request(1)])) == ["Heard call 0.", "Heard call 1."]
    assert provider.asked == []


def test_lines_that_failed_have_their_reason_and_cost_nothing(ledger: Ledger, provider: ModelServer) -> None:
    errors: dict[str, dict[str, Any]] = {
        "call 0": {"response": {"status_code": 400, "body": {"error": {"message": "too long"}}}, "error": None},
        "call 1": {"response": {"status_code": 500, "body": {}}, "error": None},
        "call 2": {"response": None, "error": {"code": "batch_expired", "message": "too late"}},
        "call 3": {},  # no line at all
    }
    provider.unanswered = lambda line: errors.get(line["body"]["messages"][0]["content"])
    outcomes = channel(ledger, provider).outcomes([request(number) for number in range(5)])
    assert isinstance(outcomes[0], CallRejected)
    assert all(isinstance(one, CallFailed) for one in outcomes[1:4])
    assert contents(outcomes[4:]) == ["Heard call 4."]
    assert calls.spend(ledger, "run") == COST
    provider.unanswered = lambda _line: None
    again = channel(ledger, provider).outcomes([request(number) for number in range(5)])
    assert contents(again)[1:] == [f"Heard call {number}." for number in range(1, 5)]
    assert isinstance(again[0], CallRejected)  # never accepted, never sent again


def test_a_batch_that_is_refused_as_a_whole_pauses_and_costs_nothing(ledger: Ledger, provider: ModelServer) -> None:
    provider.refusal = "Enqueued token limit reached"
    with pytest.raises(RunPaused, match="Enqueued token limit reached"):
        channel(ledger, provider).outcomes([request(0)])
    assert calls.spend(ledger, "run") == 0
    provider.refusal = None
    assert contents(channel(ledger, provider).outcomes([request(0)])) == ["Heard call 0."]


def test_a_cap_makes_smaller_batches_of_what_fits_and_then_holds(ledger: Ledger, provider: ModelServer) -> None:
    requests = [replace(request(number), messages=(Message("user", "x" * 900),)) for number in range(4)]
    worst = worst_case(ledger, provider, requests[0])
    capped = channel(ledger, provider, budget_usd=float(2 * worst))
    assert len(capped.outcomes(requests)) == 4
    assert len(provider.batches) > 1
    assert calls.spend(ledger, "run") == 4 * COST
    with pytest.raises(BudgetReached, match=r"black_box\.budget_usd"):
        channel(ledger, provider, budget_usd=float(4 * COST)).outcomes([request(9)])


def worst_case(ledger: Ledger, server: ModelServer, one: ChatRequest) -> Decimal:
    return Prices(account(ledger, server, price=PRICE).settings, Decimal("0.5")).reserve_usd(one)


def test_the_reserve_is_committed_before_anything_leaves(ledger: Ledger, provider: ModelServer) -> None:
    seen: list[Any] = []

    def look(_event: str) -> None:
        seen.append(rows(Ledger(ledger.home), "select state from batches")[0][0])
        seen.append(calls.spend(ledger, "run"))

    provider.tell = look
    channel(ledger, provider).outcomes([request(0)])
    assert seen[0] == "planned"
    assert seen[1] == worst_case(ledger, provider, request(0))


@pytest.mark.parametrize(
    ("event", "times"),
    [
        pytest.param("uploaded", 1, id="after the upload, before it is noted"),
        pytest.param("created", 1, id="after the batch was made, before its id is noted"),
        pytest.param("polled", 1, id="while it is under way"),
        pytest.param("polled", 3, id="when it has ended, before its answers are fetched"),
    ],
)
def test_whoever_is_killed_buys_nothing_twice(ledger: Ledger, provider: ModelServer, event: str, times: int) -> None:
    provider.polls_needed = 3
    heard: list[str] = []

    def due(what: str) -> bool:
        heard.append(what)
        return heard.count(event) == times and what == event

    killed_when(due, ledger, provider)
    assert calls.close_orphans(ledger) == 0  # its attempts live on in the batch
    outcomes = channel(ledger, provider).outcomes([request(number) for number in range(3)])
    assert contents(outcomes) == ["Heard call 0.", "Heard call 1.", "Heard call 2."]
    assert len(provider.batches) == 1
    assert calls.spend(ledger, "run") == 3 * COST


def send_three(home: Path, url: str) -> None:
    """Calls of run `run`, through a Batch API at this address."""
    server = ModelServer(lambda _body: "")
    server.url = url
    channel(Ledger(home), server).outcomes([request(number) for number in range(3)])


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


def leave_behind(ledger: Ledger, provider: ModelServer, event: str) -> None:
    """The same at the first event of this kind."""
    killed_when(lambda what: what == event, ledger, provider)


def test_a_batch_left_behind_is_finished_before_calls_are_sent_directly(ledger: Ledger, provider: ModelServer) -> None:
    provider.polls_needed = 10**6
    leave_behind(ledger, provider, "polled")
    provider.polls_needed = 1
    with_whom = account(ledger, provider, price=PRICE)
    direct = channel_for(with_whom, BatchSettings(poll_s=0.05))
    assert contents(direct.outcomes([request(0)])) == ["Heard call 0."]
    assert (len(provider.batches), provider.asked) == (1, [])


def test_another_run_waits_for_the_batch_that_holds_what_it_asks(ledger: Ledger, provider: ModelServer) -> None:
    provider.polls_needed = 10**6
    leave_behind(ledger, provider, "polled")
    provider.polls_needed = 1
    other = BatchChannel(replace(account(ledger, provider, price=PRICE), run_name="other"), BATCHES, QUICK)
    assert contents(other.outcomes([request(7)])) == ["Heard call 7."]
    assert rows(ledger, "select state from batches where run_name = 'run'") == [("submitted",)]
    assert contents(other.outcomes([request(1), request(8)])) == ["Heard call 1.", "Heard call 8."]
    lines = [line for text in provider.files.values() for line in text.splitlines() if '"method"' in line]
    assert len(lines) == len(set(lines)) == 5  # calls 0 to 2 of the first run, 7 and 8
    assert (calls.spend(ledger, "run"), calls.spend(ledger, "other")) == (3 * COST, 2 * COST)


def test_what_was_bought_since_a_batch_was_planned_is_not_sent(ledger: Ledger, provider: ModelServer) -> None:
    leave_behind(ledger, provider, "uploaded")
    other = replace(account(ledger, provider, price=PRICE), run_name="other")
    DirectChannel(other, QUICK).outcomes([request(0)])
    outcomes = channel(ledger, provider).outcomes([request(number) for number in range(3)])
    assert contents(outcomes) == ["Heard call 0.", "Heard call 1.", "Heard call 2."]
    sent = [text for text in provider.files.values() if '"method"' in text][-1].splitlines()
    assert [json.loads(line)["body"]["messages"][0]["content"] for line in sent] == ["call 1", "call 2"]
    assert (len(provider.batches), calls.spend(ledger, "run")) == (1, 2 * COST)
    DirectChannel(other, QUICK).outcomes([request(number) for number in range(3)])
    channel(ledger, provider).outcomes([request(number) for number in range(3)])
    assert (len(provider.batches), len(provider.asked)) == (1, 1)


def test_an_offline_endpoint_takes_no_batches(ledger: Ledger, provider: ModelServer) -> None:
    given = account(ledger, provider)
    offline = given.settings.model_copy(update={"endpoint": "world"})
    with pytest.raises(UsageError, match="batches"):
        channel_for(Account(ledger, "run", offline, given.open_endpoint), BATCHES)


def test_a_whole_match_is_judged_through_a_batch(ledger: Ledger, provider: ModelServer) -> None:
    provider.say = longer_wins
    judge = account(ledger, provider)
    one = match(ledger, judge, pairs(("long answer", "short"), ("x", "longer")))
    count = play.fn(one, BatchChannel(judge, BATCHES, QUICK), lambda _message, _share: None)
    assert (count.asked, count.missing, provider.asked, len(provider.batches)) == (4, 0, [], 1)
    assert json.loads(provider.files["file-0"].splitlines()[0])["url"] == "/v1/chat/completions"
