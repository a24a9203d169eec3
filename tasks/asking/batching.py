"""The other channel: calls of the evaluation through the endpoint's Batch API, for a share of the price.

A batch is planned and committed before anything leaves: its calls, their attempts, their reserve. Then its file
goes up, the batch is made under our own name for it, and its answers are fetched when it has ended. Whoever dies
in between leaves a batch that the next start carries on from where it was: the file may go up twice, which costs
nothing; before a batch is made, the provider is asked for one of that name. Answers come into the ledger like any
other, whichever run fetches them: a batch that another run submitted is waited for by all who want its answers.
Leaves out the provider's side (`cyclealign.black_box.batch_endpoint`) and the rows (`storage.batches`).
"""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from itertools import accumulate
from typing import Final, TypeVar

from cyclealign.black_box.batch_endpoint import PATH, BatchEndpoint, BatchState
from cyclealign.black_box.batch_lines import answer_lines, outcome_of
from cyclealign.black_box.failures import AGAIN
from cyclealign.black_box.prices import Prices
from cyclealign.errors import (
    BudgetReached,
    CallFailed,
    CallRejected,
    CallTransient,
    EndpointRefused,
    RunPaused,
    UsageError,
)
from cyclealign.records import ChatReply, ChatRequest
from cyclealign.seeds import derive_seed
from cyclealign.settings import BatchSettings
from storage import batches
from storage.batches import BatchCall, BatchRow, PlannedCall
from storage.calls import CallDescription
from tasks.asking.call_records import CallRecords
from tasks.asking.channels import RUN_CAP, Account, Channel, DirectChannel, Outcome
from tasks.asking.pace import PATIENT, Backoff
from tasks.cycle.progress import say

T = TypeVar("T")
MOST_CALLS: Final = 50_000
MOST_BYTES: Final = 190_000_000
"""What OpenAI takes in one batch, and a little less than the 200 MB of its file."""
SLICE_S: Final = 0.2
"""How soon a wait notices that it is to stop."""


def channel_for(account: Account, settings: BatchSettings) -> Channel:
    """The way to an endpoint; a batch that an earlier start left is finished first, so that nothing is bought twice.

    Raises:
        UsageError: batches are wanted, and the endpoint is an offline one.
        RunPaused: an earlier batch cannot be finished now.
    """
    through_batches = BatchChannel(account, settings)
    if settings.enabled and account.settings.endpoint != "api":
        raise UsageError(
            f"{account.settings.model} answers in this process. Expected evaluation.batches.enabled=false."
        )
    if settings.enabled:
        return through_batches
    if batches.unfinished(account.ledger, account.run_name, account.origin):
        through_batches.outcomes([])
    return DirectChannel(account)


@dataclass
class BatchChannel:
    """Many requests at once, as batches of the endpoint."""

    account: Account
    settings: BatchSettings
    backoff: Backoff = PATIENT
    portion: int | None = None
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)

    @property
    def price_share(self) -> float:
        """What a call costs in a batch."""
        return self.settings.price_share

    def key(self, request: ChatRequest) -> str:
        """The call key of a request."""
        return request.key(self.account.origin)

    def outcomes(self, requests: Sequence[ChatRequest], ask: int = 0) -> list[Outcome]:
        """The outcome of each request; see `Channel`. Earlier batches are finished first."""
        with ThreadPoolExecutor(1) as pool:  # a thread of its own: the caller may be inside an event loop
            results = pool.submit(asyncio.run, self._outcomes(requests, ask))
            try:
                return results.result()
            except KeyboardInterrupt:
                self._stopping.set()
                raise

    async def _outcomes(self, requests: Sequence[ChatRequest], ask: int) -> list[Outcome]:
        courier = _Courier(self.account, self.settings, self.backoff, self._stopping)
        try:
            await courier.finish(requests)
            await courier.send(requests, ask)
            return [await courier.outcome(request) for request in requests]
        except BudgetReached as error:
            raise BudgetReached(str(error).replace(RUN_CAP, self.account.cap)) from None
        finally:
            await courier.endpoint.close()


class _Courier:
    """Carries batches to the endpoint and answers back; belongs to one event loop."""

    def __init__(self, account: Account, settings: BatchSettings, backoff: Backoff, stopping: threading.Event) -> None:
        self.endpoint = BatchEndpoint(account.settings)
        self._account, self._settings, self._backoff = account, settings, backoff
        self._stopping = stopping
        self._prices = Prices(account.settings, Decimal(str(settings.price_share)))
        self._records = CallRecords(account.ledger, self._prices)

    async def finish(self, requests: Sequence[ChatRequest] = ()) -> None:
        """Carry to its end every unfinished batch of this run, and of others where it holds one of the requests."""
        account, keys = self._account, [self._key(one) for one in requests]
        for batch in batches.unfinished(account.ledger, account.run_name, account.origin, keys):
            await self._carry(batch)

    async def send(self, requests: Sequence[ChatRequest], ask: int) -> None:
        """Plan and carry batches until every request that had no outcome was in one."""
        unknown = {self._key(one): one for one in requests}
        wanted = [self._planned(key, one, ask) for key, one in unknown.items() if await self._open(key)]
        budget = self._account.settings.budget_usd
        while wanted:
            cap = None if budget is None else Decimal(str(budget))
            taken = await asyncio.to_thread(batches.plan, self._account.ledger, _fitting(wanted), cap)
            wanted = wanted[taken:]
            await self.finish()

    async def outcome(self, request: ChatRequest) -> Outcome:
        """What the ledger has of a request now."""
        try:
            recorded = await self._records.outcome(self._key(request))
        except CallRejected as error:
            return error
        return recorded or CallTransient("The batch brought no answer to this call.", kind="no_answer")

    async def _open(self, key: str) -> bool:
        try:
            return await self._records.outcome(key) is None
        except CallRejected:
            return False

    def _key(self, request: ChatRequest) -> str:
        return request.key(self._account.origin)

    def _planned(self, key: str, request: ChatRequest, ask: int) -> PlannedCall:
        account = self._account
        call = CallDescription(key, account.run_name, request, account.origin, ask=ask)
        return PlannedCall(call, self._prices.reserve_usd(request))

    async def _carry(self, batch: BatchRow) -> None:
        """From wherever a batch was left to its answers in the ledger."""
        calls, batch_id = batches.calls_of(self._account.ledger, batch.batch), batch.provider_batch_id
        if batch_id is None:
            # made before and not noted, by a process that died or a request that was lost: then it is that one
            made = await self._patiently(lambda: self.endpoint.find(batch.batch, batch.planned_at))
            if made is None:
                planned, calls = calls, await self._still_wanted(calls)
                file_id = batch.input_file_id if len(calls) == len(planned) else None
                made = await self._made(batch, calls, file_id) if calls else None
            if made is None:
                batches.end(self._account.ledger, batch.batch)
                return
            batch_id = made.batch_id
            batches.submitted(self._account.ledger, batch.batch, batch_id)
        state = await self._wait(batch_id, len(calls))
        await self._collect(batch, calls, state)

    async def _still_wanted(self, calls: Sequence[BatchCall]) -> list[BatchCall]:
        """The calls that nobody else had answered since they were planned; the others are not sent."""
        wanted = []
        for call in calls:
            if await self._open(call.call_key):
                wanted.append(call)
            elif call.in_flight:
                unsent = CallTransient("Another run had it answered first.", kind="answered_elsewhere")
                await self._records.failed(call.attempt, unsent, call.reserved_usd)
        return wanted

    async def _made(self, batch: BatchRow, calls: Sequence[BatchCall], file_id: str | None) -> BatchState:
        """The batch at the provider, of the file that an earlier start left there, or of a new one."""
        if file_id is None:
            content = "".join(_line(call) for call in calls)
            file_id = await self._patiently(lambda: self.endpoint.upload(f"{batch.batch}.jsonl", content))
            batches.uploaded(self._account.ledger, batch.batch, file_id)
        return await self._patiently(lambda: self._submit(batch, file_id))

    async def _submit(self, batch: BatchRow, file_id: str) -> BatchState:
        """The request may have got through although its answer was lost: then it is not made again."""
        found = await self.endpoint.find(batch.batch, batch.planned_at)
        return found or await self.endpoint.create(batch.batch, file_id)

    async def _wait(self, batch_id: str, calls: int) -> BatchState:
        told = ""
        while True:
            state = await self._patiently(lambda: self.endpoint.state(batch_id))
            line = f"  batch {batch_id}: {state.status}, {state.done} of {calls} calls"
            if line != told:
                say(line)
            if state.ended:
                return state
            told = line
            await self._pause(self._settings.poll_s)

    async def _collect(self, batch: BatchRow, calls: Sequence[BatchCall], state: BatchState) -> None:
        texts = [await self._patiently(partial(self.endpoint.download, file)) for file in state.files]
        lines = answer_lines(texts)
        for call in calls:
            if call.in_flight:  # else it was settled by a process that died while it collected
                await self._settle(call, outcome_of(lines.get(call.call_key), state.status))
        problem = f"{state.status}: {state.problem}" if state.status == "failed" else None
        batches.end(self._account.ledger, batch.batch, problem)
        if problem is not None:
            raise RunPaused(f"The endpoint refused batch {state.batch_id} ({problem}). Nothing was charged. {AGAIN}")

    async def _settle(self, call: BatchCall, outcome: ChatReply | CallFailed) -> None:
        if isinstance(outcome, CallFailed):
            await self._records.failed(call.attempt, outcome, call.reserved_usd)
        else:
            await self._records.replied(call.attempt, call.model, outcome, call.reserved_usd)

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """One request of the Batch API, tried again where that may help.

        Raises:
            EndpointRefused: it does not get through.
        """
        failure: CallFailed = CallTransient("No attempt was made.")
        for number in range(1, self._account.settings.attempts + 1):
            try:
                return await attempt()
            except CallRejected as error:
                failure = error
                break
            except CallTransient as error:
                failure = error
            seed = derive_seed("batch backoff", self._account.run_name, number)
            await self._pause(failure.retry_after or self._backoff.seconds(number, seed))
        words = f"The Batch API of {self._account.origin} does not take the request: {failure} {AGAIN}"
        raise EndpointRefused(words, kind=failure.kind, http_status=failure.http_status)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the run is to stop: the batch goes on at the provider without us."""
        until = asyncio.get_running_loop().time() + seconds
        while (left := until - asyncio.get_running_loop().time()) > 0:
            if self._stopping.is_set():
                raise RunPaused(f"A batch is under way at {self._account.origin}. {AGAIN}")
            await asyncio.sleep(min(left, SLICE_S))


def _fitting(wanted: Sequence[PlannedCall]) -> Sequence[PlannedCall]:
    """As many of the calls, in order, as one batch takes; at least one."""
    sizes = accumulate(len(json.dumps(one.call.request.body())) + 200 for one in wanted[:MOST_CALLS])
    return wanted[: max(1, sum(size <= MOST_BYTES for size in sizes))]


def _line(call: BatchCall) -> str:
    """A call as a line of a batch's file; its key tells its answer apart."""
    line = {"custom_id": call.call_key, "method": "POST", "url": PATH, "body": call.body}
    return json.dumps(line, ensure_ascii=False) + "\n"
