"""One way to ask: questions go in, and of each comes out an answer that was read strictly, or a reason.

A question may be asked several times, each ask a slot of its own, so that a rejected answer is never read twice. Calls
go out one by one (`tasks.asking.protocol`) or as a batch (`tasks.asking.batching`).
"""

import asyncio
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, Self, TypeVar

from cyclealign.black_box.failures import AGAIN
from cyclealign.errors import BudgetReached, CallFailed, CallRejected, EndpointRefused, UsageError
from cyclealign.method.answers import AnswerRejected, Reason
from cyclealign.records import ChatReply
from cyclealign.report.blocks import usd
from cyclealign.settings import BatchSettings
from storage import batches, calls
from storage.calls import Attempt, Dismissal, Probe
from tasks.asking.batching import Batches
from tasks.asking.probe import fitted, probe
from tasks.asking.protocol import RUN_CAP, Account, Direct
from tasks.cycle.progress import say

T = TypeVar("T")
Slot = tuple[int | str, ...]
ACCEPTED = "accepted"
NEVER: Final = -math.inf
DIRECTLY: Final = BatchSettings()
PORTION = 64
"""Questions that go out together where calls are sent one by one."""
REMEDIES: Final[Mapping[str, str]] = {
    "malformed": "Choose a model that follows the prompt's form, or change {section}.json_mode.",
    "truncated": (
        "Thoughts count into the limit of {max_tokens} tokens: raise {section}.max_tokens, or set "
        "{section}.reasoning_effort lower."
    ),
    "call_rejected": "Change what the endpoint's words name under {section}.",
}
"""What to do where questions fail for a reason that may lie with the endpoint or its settings. A refusal is the model's
word on one question."""


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
    shorter: "Callable[[], Question[T]] | None" = None
    """The same question with less context, where it can be shortened."""
    left_out: int = 0
    """How often it was shortened."""


@dataclass(frozen=True)
class Result(Generic[T]):
    """What a question came to: an answer, or the reason why there is none."""

    answer: T | None
    reason: Reason | None
    detail: str
    """What was found and expected, where there is a reason."""
    call_keys: tuple[str, ...]
    """Of its asks."""
    asks: int
    seconds: float
    """From the question to the result, all asks and waits together."""
    left_out: int = 0
    """How often the question was shortened, because the model's context was too short for it."""

    @property
    def call_key(self) -> str:
        """Of the last ask."""
        return self.call_keys[-1]


@contextmanager
def asker_of(account: Account, settings: BatchSettings = DIRECTLY, *, probing: bool = True) -> "Iterator[Asker]":
    """Asks in batches where the settings want that; else one by one, after a batch that an earlier start left.

    Args:
        account: Who pays which endpoint.
        settings: Whether to use batches.
        probing: Try an endpoint before its first question; only a system under evaluation is asked as it is set.

    Raises:
        UsageError: the settings want batches, and the endpoint is an offline one.
        RunPaused: an earlier batch cannot be finished now.
    """
    if settings.enabled and account.settings.endpoint != "api":
        raise UsageError(
            f"{account.settings.model} answers in this process. Expected evaluation.batches.enabled=false."
        )
    if settings.enabled or batches.unfinished(account.ledger, account.run_name, account.origin):
        with Asker(Batches(account, settings), probing=probing) as asker:
            if settings.enabled:
                yield asker
                return
            asker.ask([])  # nothing is bought twice
    with Asker(Direct(account), probing=probing) as asker:
        yield asker


class Asker:
    """Asks one endpoint on behalf of one run, in a thread of its own, so that the caller may compute meanwhile.

    Args:
        way: How calls are sent; the asker closes it at its own end.
        probing: Try the endpoint before the first question that it is asked.
    """

    def __init__(self, way: Direct | Batches, *, probing: bool = False) -> None:
        self.account = way.account
        self._way = way
        self._probing = probing and way.account.settings.endpoint == "api"
        self._probed: asyncio.Task[Probe] | None = None
        self._form: Probe | None = None
        self._failed: list[Result[Any]] = []
        """The last ones in a row."""
        self._accepted_at = NEVER
        self._misfit: EndpointRefused | None = None
        self._too_long: float = math.inf
        """Characters of the shortest request that was too long for the model's context."""
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

    def try_out(self) -> None:
        """Find out what the endpoint takes, as the first question would.

        Raises:
            EndpointRefused: it takes our questions in no form.
        """
        asyncio.run_coroutine_threadsafe(self._find_form(), self._loop).result()

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

    async def _find_form(self) -> None:
        if self._probing and self._probed is None:
            self._probed = asyncio.create_task(probe(self.account))
        if self._probed is not None:
            self._form = await self._probed

    async def _ask_all(self, questions: Sequence[Question[T]]) -> list[Result[T]]:
        if questions:
            await self._find_form()
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
        started, under_way = time.monotonic(), [_UnderWay(self._short_enough(one)) for one in questions]
        open_ = under_way
        while True:
            sent = [self._call(one.question, one.ask) for one in open_]
            replies = await self._way.send(sent)
            verdicts, again = dict[str, str](), list[_UnderWay[T]]()
            for one, call, reply in zip(open_, sent, replies, strict=True):
                one.call_keys.append(call.call_key)
                if self._shorten(one, call, reply):
                    again.append(one)
                    continue
                result = one.come_to(reply, time.monotonic() - started)
                if isinstance(reply, ChatReply):  # a call that cannot be made is not worth another ask
                    verdicts[call.call_key] = result.reason or ACCEPTED
                    if result.reason and one.again and one.ask + 1 < one.question.asks:
                        one.ask += 1
                        again.append(one)
            if verdicts:
                calls.record_verdicts(self.account.ledger, verdicts)
            open_ = again
            if not open_:
                break
        results = [one.result for one in under_way if one.result]
        self._watch(results)
        return results

    def _short_enough(self, question: Question[T]) -> Question[T]:
        """The question, shortened until its request is shorter than those that were too long."""
        while question.shorter and _size(question.request(0)[0]) >= self._too_long:
            question = question.shorter()
        return question

    def _shorten(self, one: "_UnderWay[T]", call: Attempt, reply: ChatReply | CallFailed) -> bool:
        """Shorten a question that does not fit into the model's context; whether that could be done."""
        if not isinstance(reply, CallRejected) or reply.kind != "context_length":
            return False
        self._too_long = min(self._too_long, _size(call.request))
        if one.question.shorter is None:
            return False
        one.question = one.question.shorter()
        return True

    def _watch(self, results: Sequence[Result[Any]]) -> None:
        """Tell bad luck from a misfit: few questions fail in a row where the endpoint fits.

        Raises:
            EndpointRefused: too many did. Their answers are given up, so that they are asked again after mending.
        """
        now = time.monotonic()
        for result in results:
            if result.reason is None:
                self._accepted_at, self._failed = now, []
            elif result.reason in REMEDIES and now - result.seconds > self._accepted_at:
                self._failed.append(result)  # where others came through meanwhile, it is this question's own fault
        if self._failed and self._misfit is None and len(self._failed) >= self._patience():
            self._misfit = EndpointRefused(self._what_misfits(), kind="misfit")
            self._way.stop(self._misfit)
        if self._misfit is not None:
            given_up = [Dismissal(key) for result in self._failed for key in result.call_keys]
            self.account.ledger.record(*given_up)
            self._failed = []
            raise self._misfit

    def _patience(self) -> int:
        """How many questions in a row may fail: fewer where none was answered yet."""
        return 3 if self._accepted_at == NEVER else 4

    def _what_misfits(self) -> str:
        settings, last = self.account.settings, self._failed[-1]
        remedy = REMEDIES[str(last.reason)].format(section=self.account.section, max_tokens=settings.max_tokens)
        return (
            f"The last {len(self._failed)} questions to {settings.model} at {self.account.origin} all failed, the last "
            f"one so: {last.reason}, {last.detail} Expected answers that can be read. {remedy} {AGAIN} What failed is "
            "asked again; other settings need a new --run."
        )

    def _call(self, question: Question[Any], ask: int) -> Attempt:
        body, slot = question.request(ask)
        body = body if self._form is None else fitted(body, self._form)
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
        asks = questions[0].asks
        most = usd(asks * float(sum(known))) if len(known) == len(worst) else "an unknown price"
        again = f" with {asks} asks each" if asks > 1 else ""
        cap = "no cap" if settings.budget_usd is None else f"cap {usd(settings.budget_usd)}"
        say(f"  {settings.model}: at most {len(worst)} calls, at most {most}{again}; {cap} ({self.account.cap})")


@dataclass
class _UnderWay(Generic[T]):
    """A question that is being asked."""

    question: Question[T]
    ask: int = 0
    call_keys: list[str] = field(default_factory=list)
    result: Result[T] | None = None
    again: bool = True
    """Whether another ask may bring another answer."""

    def come_to(self, reply: ChatReply | CallFailed, seconds: float) -> Result[T]:
        """Read what came back."""
        answer: T | None = None
        reason: Reason | None = None
        detail = ""
        if isinstance(reply, CallFailed):
            reason, detail = _reason(reply), str(reply)
        else:
            try:
                answer = self.question.read(reply, self.ask)
            except AnswerRejected as error:
                reason, detail, self.again = error.reason, error.detail, error.again
        keys, left_out = tuple(self.call_keys), self.question.left_out
        self.result = Result(answer, reason, detail, keys, self.ask + 1, seconds, left_out)
        return self.result


def _size(body: Mapping[str, Any]) -> int:
    return len(json.dumps(body["messages"]))


def _reason(error: CallFailed) -> Reason:
    if not isinstance(error, CallRejected):
        return "call_failed"
    return "content_filter" if error.kind == "content_filter" else "call_rejected"
