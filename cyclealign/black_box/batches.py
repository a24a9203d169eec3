"""The Batch API of an endpoint over the `openai` library: files go up, a batch is made of one, files come down.

One method is one attempt, translated like a chat completion. A line of an output file is read like the answer to a call
that was sent alone. Leaves out recording, money and patience (`tasks.asking.batching`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from openai import AsyncOpenAI
from openai.types import Batch

from cyclealign.black_box.endpoint import ChatEndpoint, mapping, read_reply
from cyclealign.black_box.failures import WORDS_SHOWN, blot, failure_of
from cyclealign.errors import CallFailed, CallRejected, CallTransient, EndpointRefused
from cyclealign.records import ChatReply

MARK: Final = "cyclealign_batch"
"""The key under which our name for a batch stands in its metadata."""
PATH: Final = "/v1/chat/completions"
ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
CLOCKS_APART_S: Final = 3600
"""By so much a provider's clock may be behind ours."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """Where a batch stands at the provider."""

    batch_id: str
    status: str
    done: int
    files: tuple[str, ...]
    """Ids of the files with answers and with errors; there once it has ended."""
    problem: str
    """Why it failed as a whole, in the provider's words."""

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ENDED


class BatchEndpoint(ChatEndpoint):
    """A chat-completions endpoint that also takes batches."""

    async def upload(self, name: str, content: str) -> str:
        """Put a file there; returns its id. Costs nothing, also when it is done twice."""
        made = await self._attempt(lambda client: client.files.create(file=(name, content.encode()), purpose="batch"))
        return made.id

    async def find(self, name: str, since: float) -> BatchState | None:
        """The batch that carries our `name`, made no earlier than `since` (seconds since the epoch)."""

        async def search(client: AsyncOpenAI) -> Batch | None:
            async for batch in client.batches.list(limit=100):  # newest first
                if (batch.metadata or {}).get(MARK) == name:
                    return batch
                if batch.created_at < since - CLOCKS_APART_S:
                    break
            return None

        found = await self._attempt(search)
        return None if found is None else self._state(found)

    async def create(self, name: str, file_id: str) -> BatchState:
        """Have the calls in a file made, under our `name`; from here on they cost money."""
        made = await self._attempt(
            lambda client: client.batches.create(
                input_file_id=file_id, endpoint=PATH, completion_window="24h", metadata={MARK: name}
            )
        )
        return self._state(made)

    async def state(self, batch_id: str) -> BatchState:
        """Where a batch stands now."""
        return self._state(await self._attempt(lambda client: client.batches.retrieve(batch_id)))

    async def download(self, file_id: str) -> str:
        """The content of a file."""

        async def read(client: AsyncOpenAI) -> str:
            return (await client.files.content(file_id)).text

        return blot(await self._attempt(read), self._secret)

    def _state(self, batch: Batch) -> BatchState:
        counts, errors = batch.request_counts, batch.errors
        words = " ".join(one.message or "" for one in (errors.data or [] if errors else []))
        return BatchState(
            batch_id=batch.id,
            status=batch.status,
            done=counts.completed + counts.failed if counts else 0,
            files=tuple(file for file in (batch.output_file_id, batch.error_file_id) if file),
            problem=blot(words, self._secret)[:WORDS_SHOWN],
        )


def request_line(call_key: str, body: Mapping[str, Any]) -> str:
    """A call as a line of a batch's file; its key tells its answer apart."""
    line = {"custom_id": call_key, "method": "POST", "url": PATH, "body": body}
    return json.dumps(line, ensure_ascii=False) + "\n"


def answer_lines(texts: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """The lines of output files by the call keys that we gave; a line that is no JSON object answers no call."""
    lines: dict[str, Mapping[str, Any]] = {}
    for text in texts:
        for line in text.split("\n"):  # not splitlines: answers may hold other line breaks
            try:
                found = mapping(json.loads(line, strict=False))
            except ValueError:
                continue
            lines[str(found.get("custom_id"))] = found
    return lines


def outcome_of(line: Mapping[str, Any] | None, status: str) -> ChatReply | CallFailed:
    """What one call of a batch came to; without a line the batch ended (`status`) before its turn, unpaid."""
    response = mapping(line).get("response")
    if not isinstance(response, dict):
        words = _words(mapping(line))
        return CallTransient(f"The batch is {status} and has no answer to this call. {words}".strip(), kind="no_answer")
    body, code = mapping(response.get("body")), response.get("status_code")
    if code == 200:
        try:
            return read_reply(json.dumps(response.get("body"), ensure_ascii=False))
        except (CallFailed, EndpointRefused) as error:
            found = error
    else:
        found = failure_of(code if isinstance(code, int) and code != 200 else 500, body.get("error"))
    if isinstance(found, EndpointRefused):  # of this call: the batch as a whole was taken
        return CallRejected(str(found), kind=found.kind, http_status=found.http_status)
    return found


def _words(said: Mapping[str, Any]) -> str:
    error = mapping(said.get("error"))
    return " ".join(str(error.get(name) or "") for name in ("code", "message")).strip()[:WORDS_SHOWN]
