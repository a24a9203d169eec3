"""What the ledger is told about paid calls, without stopping the event loop.

Turns what happened to an attempt into rows: outcome, charge, kind of failure. Every method comes back after
its commit. Leaves out: the order of things (`tasks.asking.protocol`) and the rows themselves (`storage.calls`).
"""

import asyncio
import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Concatenate, ParamSpec, TypeVar

from cyclealign.black_box.prices import Prices
from cyclealign.errors import CallFailed, CallRejected, EndpointRefused
from cyclealign.records import ChatReply
from storage import calls
from storage.calls import CallDescription, CallRow, SettledState
from storage.ledger import Ledger

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
NOTHING = Decimal(0)


class CallRecords:
    """The ledger's account of the calls to one endpoint.

    Args:
        ledger: Where it is kept.
        prices: What calls cost there.
    """

    def __init__(self, ledger: Ledger, prices: Prices) -> None:
        self._ledger = ledger
        self._prices = prices
        self._told_missing_usage = False

    async def outcome(self, key: str) -> ChatReply | None:
        """The recorded outcome of a call, as it was when it came; None when there is none yet.

        Raises:
            CallRejected: the endpoint rejected the request when it was sent.
        """
        recorded = await self._in_ledger(calls.find, key)
        return None if recorded is None or recorded.state == "open" else _as_it_was(recorded)

    async def begin(self, call: CallDescription, reserved: Decimal, cap: Decimal | None) -> int:
        """Commit an attempt as in flight with its reserve; returns its number.

        Raises:
            BudgetReached: the reserve does not fit under the cap.
        """
        return await self._in_ledger(calls.begin_attempt, call, reserved, cap)

    async def replied(self, attempt: int, model: str, reply: ChatReply, reserved: Decimal) -> None:
        """Commit what came back from the model that was asked for, as received, and what it cost."""
        cost = self._charge(model, reply, reserved)
        await self._in_ledger(calls.settle, attempt, reply, cost, _state(reply))

    async def failed(self, attempt: int, error: BaseException, reserved: Decimal) -> None:
        """Commit that an attempt brought no answer; where it may have been paid for, it costs its reserve."""
        if isinstance(error, CallRejected):
            rejection = ChatReply(str(error), None, None, error.kind, None, 0, 0)
            await self._in_ledger(calls.settle, attempt, rejection, NOTHING, "rejected")
        if isinstance(error, CallFailed) and error.raw:
            await self._in_ledger(calls.keep_unreadable, attempt, error.raw)
        kind, status, billed = "cancelled", None, True
        if isinstance(error, CallFailed | EndpointRefused):
            kind, status, billed = error.kind, error.http_status, getattr(error, "billed", False)
        cost = reserved if billed else NOTHING
        await self._in_ledger(calls.fail_attempt, attempt, kind, status, cost)

    async def judged(self, key: str, verdict: str) -> None:
        """Commit what reading an outcome said."""
        await self._in_ledger(calls.record_verdict, key, verdict)

    def _charge(self, model: str, reply: ChatReply, reserved: Decimal) -> Decimal:
        """What the reply cost; without usage in it, the worst case."""
        if not reply.prompt_tokens and not reply.completion_tokens:
            self._tell_missing_usage()
            return reserved
        cost = self._prices.cost_usd(model, reply.prompt_tokens, reply.completion_tokens)
        return NOTHING if cost is None else cost

    def _tell_missing_usage(self) -> None:
        if not self._told_missing_usage:
            logger.warning("black box: replies without token usage are charged at their worst case")
        self._told_missing_usage = True

    async def _in_ledger(self, use: Callable[Concatenate[Ledger, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Use the ledger in another thread: waiting for its lock must not keep answers from arriving in time.

        Shielded: what is being committed must not be lost to a cancelled caller.
        """
        return await asyncio.shield(asyncio.to_thread(use, self._ledger, *args, **kwargs))


def _state(reply: ChatReply) -> SettledState:
    """What the call came to, by the reply's own account; what its content says is not asked here."""
    if reply.finish_reason == "length":
        return "truncated"
    return "refused" if reply.refusal or reply.finish_reason == "content_filter" else "answered"


def _as_it_was(recorded: CallRow) -> ChatReply:
    if recorded.reply is None or recorded.state == "rejected":
        words, kind = (recorded.reply.raw, recorded.reply.finish_reason) if recorded.reply else ("", None)
        raise CallRejected(f"Recorded as rejected. {words}", kind=kind or "bad_request")
    return recorded.reply
