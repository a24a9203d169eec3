"""Calls sent together through the endpoint's Batch API, for a share of the price.

`Batches` plans and commits a batch before anything leaves: its calls, their attempts, their reserve. Then it uploads
the file, makes the batch under our own name for it, and fetches the answers when it has ended. A process that dies in
between leaves a batch that the next start carries on from where it was: the file may go up twice, which costs nothing;
before making a batch, `Batches` asks the provider for one of that name. Answers enter the ledger like any other,
whichever run fetches them: every run that wants answers of a submitted batch waits for it.
Leaves out the provider's side (`cyclealign.black_box.batches`) and the rows (`storage.batches`).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from itertools import accumulate
from typing import ClassVar, Final, TypeVar

from cyclealign.black_box.batches import BatchEndpoint, BatchState, answer_lines, outcome_of, request_line
from cyclealign.black_box.failures import AGAIN
from cyclealign.black_box.prices import Prices
from cyclealign.errors import CallFailed, CallRejected, CallTransient, EndpointRefused, RunPaused
from cyclealign.records import ChatReply
from cyclealign.seeds import derive_seed
from cyclealign.settings import BatchSettings
from storage import batches
from storage.batches import BatchCall, BatchRow
from storage.calls import Attempt
from tasks.asking.pace import PATIENT, Backoff
from tasks.asking.protocol import Account, CallRecords
from tasks.cycle.progress import say

T = TypeVar("T")
MOST_CALLS: Final = 50_000
MOST_BYTES: Final = 190_000_000
"""What OpenAI takes in one batch, and a little less than the 200 MB of its file."""


class Batches:
    """Sends calls as batches of the endpoint. Belongs to one event loop."""

    together: ClassVar[bool] = True

    def __init__(self, account: Account, settings: BatchSettings, backoff: Backoff = PATIENT) -> None:
        self.account = account
        self.prices = Prices(account.settings, Decimal(str(settings.price_share)))
        self.records = CallRecords(account.ledger, self.prices)
        self._endpoint = BatchEndpoint(account.settings)
        self._poll_s, self._backoff = settings.poll_s, backoff
        self._stopped = asyncio.Event()

    async def send(self, calls: Sequence[Attempt]) -> list[ChatReply | CallFailed]:
        """The outcome of each call; first finishes the run's earlier batches, and others that hold one of the calls.

        Raises:
            RunPaused: a batch is refused, does not get through, or goes on without us; or the cap is reached.
        """
        await self._finish([call.call_key for call in calls])
        unknown = {call.call_key: call for call in calls}
        wanted = [call for key, call in unknown.items() if self.records.outcome(key) is None]
        while wanted:
            planned = batches.plan(self.account.ledger, _fitting(wanted), self.account.budget)
            wanted = wanted[planned:]
            await self._finish()
        lost = CallTransient("The batch brought no answer to this call.", kind="no_answer")
        return [self.records.outcome(call.call_key) or lost for call in calls]

    def stop(self, _why: RunPaused | None = None) -> None:
        """Wait for nothing any more: a batch goes on at the provider without us."""
        self._stopped.set()

    async def close(self) -> None:
        """Give the connections back."""
        await self._endpoint.close()

    async def _finish(self, keys: Sequence[str] = ()) -> None:
        account = self.account
        for batch in batches.unfinished(account.ledger, account.run_name, account.origin, keys):
            await self._carry(batch)

    async def _carry(self, batch: BatchRow) -> None:
        """From wherever a batch was left to its answers in the ledger."""
        calls, batch_id = batches.calls_of(self.account.ledger, batch.batch), batch.provider_batch_id
        if batch_id is None:
            # made before and not noted, by a process that died or a request that was lost: then it is that one
            made = await self._patiently(lambda: self._endpoint.find(batch.batch, batch.planned_at))
            if made is None:
                planned, calls = calls, self._still_wanted(calls)
                file_id = batch.input_file_id if len(calls) == len(planned) else None
                made = await self._made(batch, calls, file_id) if calls else None
            if made is None:
                batches.end(self.account.ledger, batch.batch)
                return
            batch_id = made.batch_id
            batches.submitted(self.account.ledger, batch.batch, batch_id)
        state = await self._ended(batch_id, len(calls))
        await self._collect(batch, calls, state)

    def _still_wanted(self, calls: Sequence[BatchCall]) -> list[BatchCall]:
        """The calls that no other run had answered since they were planned; the others are not sent."""
        wanted = []
        for call in calls:
            if self.records.outcome(call.call_key) is None:
                wanted.append(call)
            elif call.in_flight:
                unsent = CallTransient("Another run had it answered first.", kind="answered_elsewhere")
                self.records.failed(call.attempt, unsent, call.reserved_usd)
        return wanted

    async def _made(self, batch: BatchRow, calls: Sequence[BatchCall], file_id: str | None) -> BatchState:
        """The batch at the provider, of the file that an earlier start left there, or of a new one."""
        if file_id is None:
            content = "".join(request_line(call.call_key, call.body) for call in calls)
            file_id = await self._patiently(lambda: self._endpoint.upload(f"{batch.batch}.jsonl", content))
            batches.uploaded(self.account.ledger, batch.batch, file_id)
        return await self._patiently(lambda: self._submit(batch, file_id))

    async def _submit(self, batch: BatchRow, file_id: str) -> BatchState:
        """The request may have got through although its answer was lost: then it is not made again."""
        found = await self._endpoint.find(batch.batch, batch.planned_at)
        return found or await self._endpoint.create(batch.batch, file_id)

    async def _ended(self, batch_id: str, calls: int) -> BatchState:
        """Wait for the end of a batch, and say how far it is."""
        said = ""
        while True:
            state = await self._patiently(lambda: self._endpoint.state(batch_id))
            line = f"  batch {batch_id}: {state.status}, {state.done} of {calls} calls"
            if line != said:
                say(line)
            if state.ended:
                return state
            said = line
            await self._pause(self._poll_s)

    async def _collect(self, batch: BatchRow, calls: Sequence[BatchCall], state: BatchState) -> None:
        texts = [await self._patiently(partial(self._endpoint.download, file)) for file in state.files]
        lines = answer_lines(texts)
        for call in calls:
            if not call.in_flight:  # settled by a process that died while it collected
                continue
            outcome = outcome_of(lines.get(call.call_key), state.status)
            if isinstance(outcome, CallFailed):
                self.records.failed(call.attempt, outcome, call.reserved_usd)
            else:
                self.records.replied(call.attempt, call.model, outcome, call.reserved_usd)
        problem = f"{state.status}: {state.problem}" if state.status == "failed" else None
        batches.end(self.account.ledger, batch.batch, problem)
        if problem is not None:
            raise RunPaused(f"The endpoint refused batch {state.batch_id} ({problem}). Nothing was charged. {AGAIN}")

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """One request of the Batch API, tried again where that may help.

        Raises:
            EndpointRefused: it does not get through.
        """
        failure: CallFailed = CallTransient("No attempt was made.")
        for number in range(1, self.account.settings.attempts + 1):
            try:
                return await attempt()
            except CallRejected as error:
                failure = error
                break
            except CallTransient as error:
                failure = error
            seed = derive_seed("batch backoff", self.account.run_name, number)
            await self._pause(failure.retry_after or self._backoff.seconds(number, seed))
        words = f"The Batch API of {self.account.origin} does not take the request: {failure} {AGAIN}"
        raise EndpointRefused(words, kind=failure.kind, http_status=failure.http_status)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the run is to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)
            raise RunPaused(f"A batch is under way at {self.account.origin}. {AGAIN}")


def _fitting(wanted: Sequence[Attempt]) -> Sequence[Attempt]:
    """As many of the calls, in order, as one batch takes; at least one."""
    sizes = accumulate(len(json.dumps(one.request)) + 200 for one in wanted[:MOST_CALLS])
    return wanted[: max(1, sum(size <= MOST_BYTES for size in sizes))]
