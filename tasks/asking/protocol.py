"""The protocol of a paid call: reserve and record, send, record what came back; only then may it be read.

`Direct` gives the recorded outcome of a call that any run made before, and otherwise makes attempts until one brings
an outcome. It records each attempt as in flight with its worst-case cost before sending it, so that spend is never
understated and a cap holds under concurrency; a process that dies in between leaves an attempt that the next start
charges in full. Leaves out the endpoint (`cyclealign.black_box.endpoint`), what an answer says
(`tasks.asking.questions`) and the rows (`storage.calls`).
"""

import asyncio
import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import ClassVar, Final

from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.black_box.failures import AGAIN
from cyclealign.black_box.prices import Prices
from cyclealign.errors import (
    BudgetReached,
    CallFailed,
    CallRejected,
    CallTransient,
    CycleAlignError,
    EndpointRefused,
    RunPaused,
)
from cyclealign.records import ChatReply
from cyclealign.seeds import derive_seed
from cyclealign.settings import BlackBoxSettings
from storage import calls
from storage.calls import Attempt, SettledState
from storage.ledger import Ledger
from tasks.asking.pace import PATIENT, Backoff, Gate, now
from tasks.context import RunContext

LOGGER = logging.getLogger(__name__)
RUN_CAP: Final = "black_box.budget_usd"
NOTHING: Final = Decimal(0)
OUTAGES: Final = frozenset({"connection", "overloaded", "rate_limit"})
"""Failures that say something about the endpoint; the others may be the fault of one request."""
AT_ONCE: Final = 8
"""Calls at once where the settings say nothing."""
LONGEST_WAIT_S: Final = 600.0
"""An endpoint that asks for a longer wait pauses the run."""


@dataclass(frozen=True)
class Account:
    """Which run asks which endpoint, and under which cap it pays."""

    ledger: Ledger
    run_name: str
    settings: BlackBoxSettings
    """Of the endpoint; `budget_usd` caps everything that the run spends."""
    open_endpoint: Callable[[], ChatEndpoint]
    """A new one each time: an endpoint belongs to one event loop."""
    cap: str = RUN_CAP
    """The setting that holds the cap."""

    @cached_property
    def origin(self) -> str:
        """Tells endpoints apart in call keys."""
        return self.open_endpoint().origin

    @property
    def section(self) -> str:
        """The settings of the endpoint, as users write them."""
        return self.cap.rpartition(".")[0]

    @property
    def budget(self) -> Decimal | None:
        """The cap, US dollars."""
        return None if self.settings.budget_usd is None else Decimal(str(self.settings.budget_usd))


def account(
    context: RunContext, settings: BlackBoxSettings, open_endpoint: Callable[[], ChatEndpoint], cap: str = RUN_CAP
) -> Account:
    """The run's account with an endpoint; without a cap of its own (`cap`), the run's holds."""
    if settings.budget_usd is not None:
        return Account(context.ledger, context.name, settings, open_endpoint, cap)
    capped = settings.model_copy(update={"budget_usd": context.settings.black_box.budget_usd})
    return Account(context.ledger, context.name, capped, open_endpoint)


class CallRecords:
    """What the ledger has of the calls to one endpoint, and what becomes of new ones."""

    def __init__(self, ledger: Ledger, prices: Prices) -> None:
        self._ledger = ledger
        self._prices = prices
        self._warned_of_missing_usage = False

    def outcome(self, key: str) -> ChatReply | CallRejected | None:
        """What a call came to when any run made it; None when it has no outcome yet."""
        found = calls.find(self._ledger, key)
        if found is None or found.reply is None:
            return None
        if found.state != "rejected":
            return found.reply
        return CallRejected(f"Recorded as rejected. {found.reply.raw}", kind=found.failure or "bad_request")

    def replied(self, attempt: int, model: str, reply: ChatReply, reserved: Decimal) -> None:
        """Record what the model that was asked for sent back, as received, and what it cost."""
        cost = self._prices.cost_usd(model, reply.prompt_tokens, reply.completion_tokens) or NOTHING
        if not reply.prompt_tokens and not reply.completion_tokens:
            cost = reserved
            if not self._warned_of_missing_usage:
                LOGGER.warning("black box: replies without token usage are charged at their worst case")
            self._warned_of_missing_usage = True
        calls.settle(self._ledger, attempt, reply, cost, _state(reply))

    def failed(self, attempt: int, error: CallFailed | EndpointRefused, reserved: Decimal) -> None:
        """Record that an attempt brought no answer; it costs its reserve where the endpoint may have charged for it."""
        billed, raw = (error.billed, error.raw) if isinstance(error, CallFailed) else (False, None)
        rejection = str(error) if isinstance(error, CallRejected) else None
        cost = reserved if billed else NOTHING
        calls.fail_attempt(self._ledger, attempt, error.kind, error.http_status, cost, raw, rejection)


def _state(reply: ChatReply) -> SettledState:
    """What the call came to, by the reply's own account."""
    if reply.finish_reason == "length":
        return "truncated"
    return "refused" if reply.refusal or reply.finish_reason == "content_filter" else "answered"


class Direct:
    """Sends each call by itself, as many at once as the endpoint takes. Belongs to one event loop.

    Raises:
        UsageError: there is a cap, and no price to keep it by.
    """

    together: ClassVar[bool] = False

    def __init__(self, account: Account, backoff: Backoff = PATIENT) -> None:
        self.account = account
        self.prices = Prices(account.settings)
        self.prices.require_price()
        self.records = CallRecords(account.ledger, self.prices)
        self._backoff = backoff
        self._endpoint = account.open_endpoint()
        self._gate = Gate(account.settings.concurrency or AT_ONCE)
        self._outstanding = 0
        self._last_success = 0.0
        self._fruitless = 0
        """Calls in a row that were given up while no other came through."""
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def send(self, calls: Sequence[Attempt]) -> list[ChatReply | CallFailed]:
        """The outcome of each call: recorded, or brought by as many attempts as it takes.

        A failure is a `CallRejected` (the endpoint will never accept the request, now or when it was recorded), or a
        `CallTransient` (all attempts failed while other calls came through).

        Raises:
            EndpointRefused: no call gets through; raised by every call from then on.
            BudgetReached: the next attempt could exceed the cap.
        """
        return list(await asyncio.gather(*map(self._outcome, calls)))

    def stop(self, why: RunPaused | None = None) -> None:
        """Send nothing any more; calls under way still bring and record their outcome."""
        self._gate.close(why or RunPaused(f"The run is closing; no more questions are sent. {AGAIN}"))

    async def close(self) -> None:
        """Give the connections back."""
        await self._endpoint.close()

    async def _outcome(self, call: Attempt) -> ChatReply | CallFailed:
        async with self._locks.setdefault(call.call_key, asyncio.Lock()):
            recorded = self.records.outcome(call.call_key)
            if recorded is not None:
                return recorded
            try:
                return await self._attempts(call)
            except CallFailed as error:
                return error

    async def _attempts(self, call: Attempt) -> ChatReply:
        started, not_before, failure = now(), 0.0, CallTransient("No attempt was made.")
        for attempt in range(1, self.account.settings.attempts + 1):
            try:
                async with self._gate.place(not_before) as entered:
                    return await self._attempt(call, entered)
            except CallTransient as error:
                failure = error
            seed = derive_seed("backoff", call.call_key, attempt)
            not_before = now() + self._backoff.seconds(attempt, seed)
            LOGGER.info("black box: attempt %d failed (%s)", attempt, failure.kind)
        raise self._given_up(failure, started)

    async def _attempt(self, call: Attempt, entered: float) -> ChatReply:
        """One attempt, and the record of whatever comes of it before anything else happens."""
        self._endpoint.require_key()
        attempt = await self._begin(call)
        self._outstanding += 1
        try:
            reply = await self._endpoint.send(call.request)
        except (CallFailed, EndpointRefused) as error:
            self.records.failed(attempt, error, call.reserved_usd)
            self._heed(error, entered)
            raise
        else:
            self.records.replied(attempt, call.model, reply, call.reserved_usd)
        finally:
            self._outstanding -= 1
        self._gate.speed_up()
        self._last_success, self._fruitless = now(), 0
        return reply

    async def _begin(self, call: Attempt) -> int:
        """Record the attempt as in flight; near the cap, wait for reserves of other calls to become costs."""
        while True:
            try:
                return calls.begin_attempt(self.account.ledger, call, self.account.budget)
            except BudgetReached:
                if not self._outstanding:
                    raise
            await self._gate.change()

    def _heed(self, error: CallFailed | EndpointRefused, entered: float) -> None:
        """Slow down, wait or close as the endpoint asks.

        Raises:
            EndpointRefused: it asks for longer than a run should wait.
        """
        if isinstance(error, EndpointRefused):
            self._gate.close(error)
            return
        if error.kind in ("rate_limit", "overloaded"):
            self._gate.slow_down(entered)
        if error.retry_after is None:
            return
        if error.retry_after > LONGEST_WAIT_S:
            raise self._paused(f"It asks to wait {error.retry_after:.0f} seconds ({error}).", error) from None
        self._gate.hold(error.retry_after)

    def _given_up(self, failure: CallTransient, started: float) -> CycleAlignError:
        """All attempts are used up: the endpoint's fault if nothing came through meanwhile, or the call's.

        A single call may be the reason of other failures than outages, but not two in a row, nor the first.
        """
        words = f"{self.account.settings.attempts} attempts failed, the last one so: {failure}"
        if self._last_success < started:
            self._fruitless += 1
            if failure.kind in OUTAGES or self._fruitless > 1 or not self._last_success:
                return self._paused(f"No call came through: {words}", failure)
        return CallTransient(words, kind=failure.kind, http_status=failure.http_status)

    def _paused(self, words: str, failure: CallFailed) -> EndpointRefused:
        message = f"The endpoint {self.account.origin} does not answer. {words} {AGAIN}"
        refusal = EndpointRefused(message, kind=failure.kind, http_status=failure.http_status)
        self._gate.close(refusal)
        return refusal
