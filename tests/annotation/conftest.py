"""A queue of a few pairs, a store in memory that can be made to fail, and requests to the page without a network."""

import asyncio
from typing import Any

import httpx2
import pytest
from starlette.types import ASGIApp

from cyclealign.annotation.entrance import guarded
from cyclealign.annotation.page import annotation_app
from cyclealign.annotation.pairs import PairQueue, PersonVerdict, ResponsePair, WrittenResponse
from cyclealign.errors import StorageFull
from cyclealign.records import Turn

BASE = "http://127.0.0.1:8766"
HOSTILE = '</div></form><script>alert(1)</script><img src=x onerror=alert(2)> "quoted" \x1b[31m \u202e'


def pair(number: int) -> ResponsePair:
    """Two responses, each text telling its system by its first letter, so that tests can tell them apart."""
    turns = (Turn("human", f"Question {number}"), Turn("assistant", "What?"), Turn("human", HOSTILE))
    old, new = (
        WrittenResponse(f"generation-{one.lower()}-{number}", f"{one} answer {number}") for one in ("Old", "New")
    )
    return ResponsePair(f"prompt{number}", turns, (old, new))


class MemoryStore:
    """Keeps verdicts in a dictionary; fails as long as `full` is set."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, frozenset[str]], PersonVerdict] = {}
        self.full = False

    def put(self, verdict: PersonVerdict) -> None:
        self._open()
        self.kept[verdict.annotator, verdict.generation_ids] = verdict

    def remove(self, verdict: PersonVerdict) -> None:
        self._open()
        self.kept.pop((verdict.annotator, verdict.generation_ids), None)

    def verdicts(self) -> list[PersonVerdict]:
        return list(self.kept.values())

    def _open(self) -> None:
        if self.full:
            raise StorageFull("journal/host.jsonl could not be written: <no> space left.")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def queue(store: MemoryStore) -> PairQueue:
    return PairQueue([pair(number) for number in range(4)], store)


@pytest.fixture
def page(queue: PairQueue) -> ASGIApp:
    return guarded(annotation_app(queue))


def ask(app: ASGIApp, method: str, path: str, base: str = BASE, **request: Any) -> httpx2.Response:
    """One request; a form is sent as the page's own unless the test names another origin."""
    headers = {"origin": base} if method == "POST" else {}

    async def once() -> httpx2.Response:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url=base) as client:
            return await client.request(method, path, headers=headers | request.pop("headers", {}), **request)

    return asyncio.run(once())
