"""One way to ask: questions go in, and of each comes out an answer that was read strictly, or a reason.

A question may be asked several times, each ask a slot of its own, so that a rejected answer is never read twice. Calls
go out one by one (`tasks.asking.protocol`) or as a batch (`tasks.asking.batching`).
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, Literal, Self, TypeVar

from cyclealign.black_box.capabilities import parameters_for
from cyclealign.errors import BudgetReached, CallFailed, CallRejected, UsageError
from cyclealign.method.answers import AnswerRejected, Reason
from cyclealign.records import ChatReply
from cyclealign.report.blocks import usd
from cyclealign.settings import BatchSettings, BlackBoxSettings
from storage import batches, calls
from storage.calls import Attempt
from tasks.asking.batching import Batches
from tasks.asking.protocol import RUN_CAP, Account, Direct
from tasks.cycle.progress import say

T = TypeVar("T")
Slot = tuple[int | str, ...]
ACCEPTED = "accepted"
PORTION = 64
"""Questions that go out together where calls are sent one by one."""


@dataclass(frozen=True)
class Question(Generic[T]):
    """What is asked at most `asks` times, how an answer is read, and where the question belongs."""

    purpose: Literal["ranking", "comparison", "generation", "audit"]
    request: Callable[[int], tuple[dict[str, Any], Slot]]
    """The body of the ask of this number, counted from 0, and the slot that tells it apart from equal bodies."""
    read: Callable[[ChatReply, int], T]
    """Takes the reply and the number of its ask; raises `AnswerRejected`."""
    asks: int = 1
    step: int | None = None
    round: int | None = None


@dataclass(frozen=True)
class Result(Generic[T]):
    """What a question came to: an answer, or the reason why there is none."""

    answer: T | None
    reason: Reason | None
    detail: str
    """What was found and expected, where there is a reason."""
    call_key: str
    """Of the last ask."""
    asks: int
    seconds: float
    """From the question to the result, all asks and waits together."""


@contextmanager
def asker_of(account: Account, settings: BatchSettings) -> "Iterator[Asker]":
    """Asks in batches where the settings want that; else one by one, after a batch that an earlier start left.

    Raises:
        UsageError: the settings want batches, and the endpoint is an offline one.
        RunPaused: an earlier batch cannot be finished now.
    """
    if settings.enabled and account.settings.endpoint != "api":
        raise UsageError(
            f"{account.settings.model} answers in this process. Expected evaluation.batches.enabled=false."
        )
    if settings.enabled or batches.unfinished(account.ledger, account.run_name, account.origin):
        with Asker(Batches(account, settings)) as asker:
            if settings.enabled:
                yield asker
                return
            asker.ask([])  # nothing is bought twice
    with Asker(Direct(account)) as asker:
        yield asker


class Asker:
    """Asks one endpoint on behalf of one run, in a thread of its own, so that the caller may compute meanwhile.

    Args:
        way: How calls are sent; the asker closes it at its own end.
    """

    def __init__(self, way: Direct | Batches) -> None:
        self.account = way.account
        self._way = way
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asker", daemon=True)
        self._thread.start()

    def ask(self, questions: Sequence[Question[T]]) -> list[Result[T]]:
        """The result of each question, in their order.

        Raises:
            RunPaused: no call gets through, or the cap is reached. The other questions are finished first, so that
                no paid answer is lost.
        """
        return self.submit(questions).result()

    def submit(self, questions: Sequence[Question[T]]) -> "Future[list[Result[T]]]":
        """Ask these questions and return at once; the future holds what `ask` returns or raises."""
        return asyncio.run_coroutine_threadsafe(self._ask_all(questions), self._loop)

    def ask_ahead(self, questions: Sequence[Question[Any]]) -> None:
        """Say what questions may cost; where calls are the better the more go together, ask them all now.

        Asked again in portions, such questions find their answers recorded.
        """
        self._say_cost(questions)
        if self._way.together:
            self.ask(questions)

    def portions(self, items: Sequence[T]) -> Iterator[tuple[Sequence[T], float]]:
        """The items whose questions should go out together, and the share of all that is done with them.

        The caller keeps what a portion brings before it sends the next one.
        """
        size = max(1, len(items)) if self._way.together else PORTION
        for start in range(0, len(items), size):
            yield items[start : start + size], min(1.0, (start + size) / len(items))

    def close(self) -> None:
        """Send nothing any more, let calls under way record their answers, and end the thread.

        Takes as long as the slowest of those calls, at most `black_box.timeout_s`.
        """
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _finish(self) -> None:
        self._way.stop()
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._way.close()
        await self._loop.shutdown_default_executor()

    async def _ask_all(self, questions: Sequence[Question[T]]) -> list[Result[T]]:
        groups = [questions] if self._way.together else [[one] for one in questions]
        results = await asyncio.gather(*map(self._ask, groups), return_exceptions=True)
        found: list[Result[T]] = []
        for result in results:
            if isinstance(result, BudgetReached):
                raise BudgetReached(str(result).replace(RUN_CAP, self.account.cap)) from None
            if isinstance(result, BaseException):
                raise result
            found += result
        return found

    async def _ask(self, questions: Sequence[Question[T]]) -> list[Result[T]]:
        """Ask again what came back unreadable, until every question has an answer, a failed call or no ask left."""
        started, results, open_ = time.monotonic(), dict[int, Result[T]](), list(range(len(questions)))
        for ask in count():
            sent = [self._call(questions[place], ask) for place in open_]
            replies = await self._way.send(sent)
            verdicts, again = dict[str, str](), list[int]()
            for place, call, reply in zip(open_, sent, replies, strict=True):
                question, seconds = questions[place], time.monotonic() - started
                results[place] = result = _result(question, call.call_key, ask, reply, seconds)
                if isinstance(reply, ChatReply):  # a call that cannot be made is not worth another ask
                    verdicts[call.call_key] = result.reason or ACCEPTED
                    again += [place] if result.reason and ask + 1 < question.asks else []
            if verdicts:
                calls.record_verdicts(self.account.ledger, verdicts)
            open_ = again
            if not open_:
                break
        return [results[place] for place in range(len(questions))]

    def _call(self, question: Question[Any], ask: int) -> Attempt:
        body, slot = question.request(ask)
        return Attempt(
            call_key=calls.call_key(body, self.account.origin, slot),
            run_name=self.account.run_name,
            purpose=question.purpose,
            model=body["model"],
            origin=self.account.origin,
            slot=slot,
            step=question.step,
            round=question.round,
            ask=ask,
            request=body,
            reserved_usd=self._way.prices.reserve_usd(body),
        )

    def _say_cost(self, questions: Sequence[Question[Any]]) -> None:
        """Nothing of an offline endpoint; what the ledger has of the questions costs nothing again."""
        settings = self.account.settings
        if settings.endpoint != "api" or not questions:
            return
        worst = [self._way.prices.worst_case_usd(question.request(0)[0]) for question in questions]
        known = [one for one in worst if one is not None]
        most = usd(float(sum(known))) if len(known) == len(worst) else "an unknown price"
        asks = questions[0].asks
        again = f", times {asks} if no answer can be read" if asks > 1 else ""
        cap = "no cap" if settings.budget_usd is None else f"cap {usd(settings.budget_usd)}"
        say(f"  {settings.model}: at most {len(worst)} calls, at most {most}{again}; {cap} ({self.account.cap})")


def _result(question: Question[T], call_key: str, ask: int, reply: ChatReply | CallFailed, seconds: float) -> Result[T]:
    if isinstance(reply, CallFailed):
        return Result(None, _reason(reply), str(reply), call_key, ask + 1, seconds)
    try:
        return Result(question.read(reply, ask), None, "", call_key, ask + 1, seconds)
    except AnswerRejected as error:
        return Result(None, error.reason, error.detail, call_key, ask + 1, seconds)


def _reason(error: CallFailed) -> Reason:
    if not isinstance(error, CallRejected):
        return "call_failed"
    return "content_filter" if error.kind == "content_filter" else "call_rejected"


def body_of(settings: BlackBoxSettings, text: str, seed: int) -> dict[str, Any]:
    """A request of one user message; `seed` goes with it where the settings want one."""
    messages = [{"role": "user", "content": text}]
    return {"model": settings.model, "messages": messages, **parameters_for(settings, seed)}
