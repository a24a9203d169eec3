"""Ways for the evaluation's questions to reach a chat-completions endpoint and for its answers to come back.

A channel takes many requests and gives as many outcomes, in order: a reply, or why there is none. Whatever the
ledger has is not sent again. `DirectChannel` sends one call per request; `tasks.asking.batching` has the other one.
What questions may cost is told before the first is sent.
Leaves out what is asked and how it is read (`tasks.asking.inquiry`).
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Protocol

from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.black_box.prices import Prices
from cyclealign.errors import BudgetReached, CallFailed
from cyclealign.records import ChatReply, ChatRequest
from cyclealign.report.formats import usd
from cyclealign.settings import BlackBoxSettings
from storage.ledger import Ledger
from tasks.asking.pace import PATIENT, Backoff
from tasks.asking.protocol import Asker
from tasks.context import RunContext
from tasks.cycle.progress import say

Outcome = ChatReply | CallFailed
RUN_CAP, JUDGE_CAP = "black_box.budget_usd", "evaluation.judge.endpoint.budget_usd"
PORTION = 64
"""Questions that are asked together: what they bring is kept before the next ones are sent."""


@dataclass(frozen=True)
class Account:
    """Who asks which endpoint, and who pays under which cap."""

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


def account(
    context: RunContext, settings: BlackBoxSettings, open_endpoint: Callable[[], ChatEndpoint], cap: str
) -> Account:
    """The run's account with an endpoint; without a cap of its own (`cap`), the run's holds."""
    if settings.budget_usd is not None:
        return Account(context.ledger, context.name, settings, open_endpoint, cap)
    capped = settings.model_copy(update={"budget_usd": context.settings.black_box.budget_usd})
    return Account(context.ledger, context.name, capped, open_endpoint)


def tell_cost(account: Account, requests: Sequence[ChatRequest], price_share: float, asks: int = 1) -> None:
    """Say what questions may cost before the first of them is sent; nothing of an offline endpoint.

    Args:
        account: Who asks.
        requests: The first ask of each question that is open; what the ledger has of them costs nothing again.
        price_share: Of the price of a call that is sent alone.
        asks: How often each question is asked at most.
    """
    settings = account.settings
    if settings.endpoint != "api" or not requests:
        return
    prices = Prices(settings, Decimal(str(price_share)))
    worst = [prices.worst_case_usd(request) for request in requests]
    known = [one for one in worst if one is not None]
    most = usd(float(sum(known))) if len(known) == len(worst) else "an unknown price"
    again = f", times {asks} if no answer can be read" if asks > 1 else ""
    cap = "no cap" if settings.budget_usd is None else f"cap {usd(settings.budget_usd)}"
    say(f"  {settings.model}: at most {len(requests)} calls, at most {most}{again}; {cap} ({account.cap})")


class Channel(Protocol):
    """Brings outcomes for requests."""

    portion: int | None
    """How many questions should be asked together; None: all of them."""

    @property
    def price_share(self) -> float:
        """What a call costs on this way, as a share of the price of one that is sent alone."""
        ...

    def key(self, request: ChatRequest) -> str:
        """The call key of a request."""
        ...

    def outcomes(self, requests: Sequence[ChatRequest], ask: int = 0) -> list[Outcome]:
        """The outcome of each request, the recorded one where there is one.

        Raises:
            RunPaused: no call gets through, or the cap is reached; what came in until then is recorded.
        """
        ...


@dataclass
class DirectChannel:
    """One call per request, as many at once as the endpoint takes."""

    account: Account
    backoff: Backoff = PATIENT
    portion: int | None = PORTION
    price_share: float = 1.0
    _asker: Asker | None = field(default=None, init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)

    def key(self, request: ChatRequest) -> str:
        """The call key of a request."""
        return request.key(self.account.origin)

    def outcomes(self, requests: Sequence[ChatRequest], ask: int = 0) -> list[Outcome]:
        """The outcome of each request; see `Channel`."""
        with ThreadPoolExecutor(1) as pool:  # a thread of its own: the caller may be inside an event loop
            results = pool.submit(asyncio.run, self._ask_all(requests, ask))
            try:
                return results.result()
            except KeyboardInterrupt:
                self._stop()
                raise

    async def _ask_all(self, requests: Sequence[ChatRequest], ask: int) -> list[Outcome]:
        endpoint, account = self.account.open_endpoint(), self.account
        self._loop = asyncio.get_running_loop()
        self._asker = Asker(account.ledger, endpoint, account.settings, account.run_name, self.backoff)
        asked = [self._asker.ask(request, ask=ask) for request in requests]
        try:
            results = await asyncio.gather(*asked, return_exceptions=True)
        finally:
            await endpoint.close()
        return [_outcome(result, account.cap) for result in results]

    def _stop(self) -> None:
        """Nothing is sent any more; calls under way still bring and record their outcome."""
        if self._loop is not None and self._asker is not None:
            self._loop.call_soon_threadsafe(self._asker.stop)


def _outcome(result: ChatReply | BaseException, cap: str) -> Outcome:
    if isinstance(result, BudgetReached):
        raise BudgetReached(str(result).replace(RUN_CAP, cap)) from None
    if isinstance(result, BaseException) and not isinstance(result, CallFailed):
        raise result
    return result
