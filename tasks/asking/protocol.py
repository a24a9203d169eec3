"""The protocol of a paid call: reserve and commit, send, commit what came back; only then may it be read.

`Asker.ask` gives the recorded outcome of a call that was made before, under whatever run, and otherwise makes
attempts until one brings an outcome. An attempt is committed as in flight with its worst-case cost before it
is sent, so that spend is never understated and a cap holds under concurrency; whoever dies in between leaves
an attempt that the next start charges in full. Leaves out: how to reach the endpoint
(`cyclealign.black_box.endpoint`), what an answer says (`tasks.cycle.ranking`), the rows (`tasks.asking.call_records`).
"""

import asyncio
import logging
import weakref
from decimal import Decimal
from typing import Final

from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.black_box.failures import AGAIN
from cyclealign.black_box.prices import Prices
from cyclealign.errors import BudgetReached, CallFailed, CallTransient, CycleAlignError, EndpointRefused, RunPaused
from cyclealign.records import ChatReply, ChatRequest
from cyclealign.seeds import derive_seed
from cyclealign.settings import BlackBoxSettings
from storage.calls import CallDescription
from storage.ledger import Ledger
from tasks.asking.call_records import CallRecords
from tasks.asking.pace import PATIENT, Backoff, Pace, now

logger = logging.getLogger(__name__)

OUTAGES: Final = frozenset({"connection", "overloaded", "rate_limit"})
"""Failures that say something about the endpoint; the others may be the fault of one request."""
AT_ONCE: Final = 8
"""Calls at once where the settings say nothing."""
LONGEST_WAIT_S: Final = 600.0
"""Who asks to wait longer than this pauses the run."""


class Asker:
    """Asks one endpoint on behalf of one run and keeps everything in the ledger. Belongs to one event loop.

    Args:
        ledger: Where calls and attempts are committed.
        endpoint: Where they go.
        settings: Attempts, concurrency, cap and prices.
        run_name: The run that pays.
        backoff: Waiting times between attempts.

    Raises:
        UsageError: there is a cap, and no price to keep it by.
    """

    def __init__(
        self,
        ledger: Ledger,
        endpoint: ChatEndpoint,
        settings: BlackBoxSettings,
        run_name: str,
        backoff: Backoff = PATIENT,
    ) -> None:
        self.endpoint = endpoint
        self._settings = settings
        self._run_name = run_name
        self._backoff = backoff
        self._prices = Prices(settings)
        self._prices.require_price()
        self._records = CallRecords(ledger, self._prices)
        self._pace = Pace(settings.concurrency or AT_ONCE)
        self._outstanding = 0
        self._settled = 0
        self._last_success = 0.0
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def ask(
        self, request: ChatRequest, step: int | None = None, round: int | None = None, ask: int = 0
    ) -> ChatReply:
        """The outcome of `request`: recorded, or brought by as many attempts as it takes.

        A recorded refusal or truncation is returned as what it was; the slot is spent, and asking again takes
        another slot.

        Args:
            request: The question in its slot.
            step: The step that asks, for the record.
            round: The round that asks, for the record.
            ask: The number of the ask in that round, for the record.

        Raises:
            CallRejected: the endpoint will never accept this request (now or when it was recorded).
            CallTransient: all attempts failed while other calls came through.
            EndpointRefused: no call gets through; raised by every call from then on.
            BudgetReached: the next attempt could exceed the cap.
        """
        key = self.key(request)
        call = CallDescription(
            key=key,
            run_name=self._run_name,
            request=request,
            origin=self.endpoint.origin,
            step=step,
            round=round,
            ask=ask,
        )
        async with self._locks.setdefault(key, asyncio.Lock()):
            recorded = await self._records.outcome(key)
            if recorded is not None:
                return recorded
            return await self._attempts(call)

    def key(self, request: ChatRequest) -> str:
        """The call key of `request` at this endpoint."""
        return request.key(self.endpoint.origin)

    async def record_verdict(self, request: ChatRequest, verdict: str) -> None:
        """Store what reading the outcome of `request` said: `accepted`, or why not."""
        await self._records.judged(self.key(request), verdict)

    def stop(self) -> None:
        """Send nothing any more; calls under way still bring and record their outcome."""
        self._pace.close(RunPaused(f"The run is closing; no more questions are sent. {AGAIN}"))

    async def _attempts(self, call: CallDescription) -> ChatReply:
        started, not_before, failure = now(), 0.0, CallTransient("No attempt was made.")
        for attempt in range(1, self._settings.attempts + 1):
            try:
                async with self._pace.turn(not_before) as entered:
                    return await self._attempt(call, entered)
            except CallTransient as error:
                failure = error
            seed = derive_seed("backoff", call.key, attempt)
            not_before = now() + self._backoff.seconds(attempt, seed)
            logger.info("black box: attempt %d failed (%s)", attempt, failure.kind)
        raise self._given_up(failure, started)

    async def _attempt(self, call: CallDescription, entered: float) -> ChatReply:
        self.endpoint.require_key()
        reserved = self._prices.reserve_usd(call.request)
        attempt = await self._begin(call, reserved)
        try:
            reply = await self._send(call.request, attempt, reserved)
        except CallTransient as error:
            self._heed(error, entered)
            raise
        except EndpointRefused as error:
            self._pace.close(error)
            raise
        finally:
            self._outstanding -= 1
            self._settled += 1
        self._pace.speed_up()
        self._last_success = now()
        return reply

    async def _begin(self, call: CallDescription, reserved: Decimal) -> int:
        """Commit the attempt as in flight; near the cap, wait for reserves of other calls to become costs.

        The attempt counts as outstanding from before its commit on: who does not fit beside it waits for it.
        """
        cap = None if self._settings.budget_usd is None else Decimal(str(self._settings.budget_usd))
        while True:
            settled = self._settled
            self._outstanding += 1
            try:
                return await self._records.begin(call, reserved, cap)
            except BaseException as error:
                self._outstanding -= 1
                may_fit_later = self._outstanding > 0 or self._settled > settled
                if not (isinstance(error, BudgetReached) and may_fit_later):
                    raise
            if self._settled == settled:
                await self._pace.change()

    async def _send(self, request: ChatRequest, attempt: int, reserved: Decimal) -> ChatReply:
        """One attempt, and the commit of whatever comes of it before anything else happens."""
        try:
            reply = await self.endpoint.send(request)
        except (CallFailed, EndpointRefused, asyncio.CancelledError) as error:
            await self._records.failed(attempt, error, reserved)
            raise
        await self._records.replied(attempt, request.model, reply, reserved)
        return reply

    def _heed(self, error: CallTransient, entered: float) -> None:
        """Slow down and wait as the endpoint asks.

        Raises:
            EndpointRefused: it asks for longer than a run should wait.
        """
        if error.kind in ("rate_limit", "overloaded"):
            self._pace.slow_down(entered)
        if error.retry_after is None:
            return
        if error.retry_after > LONGEST_WAIT_S:
            raise self._paused(f"It asks to wait {error.retry_after:.0f} seconds ({error}).", error) from None
        self._pace.hold(error.retry_after)

    def _given_up(self, failure: CallTransient, started: float) -> CycleAlignError:
        """All attempts are used up: the endpoint's fault if nothing came through meanwhile, or the call's."""
        words = f"{self._settings.attempts} attempts failed, the last one so: {failure}"
        nothing_yet = not self._last_success  # an endpoint that has never answered is no matter of one question
        if self._last_success < started and (failure.kind in OUTAGES or nothing_yet):
            return self._paused(f"No call came through: {words}", failure)
        return CallTransient(words, kind=failure.kind, http_status=failure.http_status)

    def _paused(self, words: str, failure: CallTransient) -> EndpointRefused:
        message = f"The endpoint {self.endpoint.origin} does not answer. {words} {AGAIN}"
        refusal = EndpointRefused(message, kind=failure.kind, http_status=failure.http_status)
        self._pace.close(refusal)
        return refusal
