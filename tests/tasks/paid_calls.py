"""Asking the fault server through the protocol of a paid call, and looking at what the ledger has of it."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from decimal import Decimal
from typing import Any

from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.records import ChatReply, ChatRequest, Message
from cyclealign.settings import BlackBoxSettings, PriceSettings
from storage import calls
from storage.ledger import Ledger
from tasks.asking.pace import Backoff
from tasks.asking.protocol import Asker
from tests.models.black_box.fault_server import USAGE, FaultServer

QUICK = Backoff(first_s=0.01, most_s=0.05)
PRICE = PriceSettings(input=1000, output=1000)
"""US dollars per million tokens: 0.1 cent a token."""
COST = Decimal(USAGE["prompt_tokens"] + USAGE["completion_tokens"]) / 1000
PROMPT = render_ranking_prompt("Human: hello\n\nAssistant:", ["b", "a", "c"], ())


def settings(server: FaultServer, **changes: Any) -> BlackBoxSettings:
    defaults = {"base_url": server.url, "model": "some-model", "timeout_s": 10, "attempts": 4, "price": PRICE}
    return BlackBoxSettings.model_validate({**defaults, **changes})


def request(slot: int = 0) -> ChatRequest:
    return ChatRequest("ranking", "some-model", (Message("user", PROMPT),), {"max_tokens": 20}, (slot,))


def script(*behaviours: str) -> Callable[[int, dict[str, Any]], str]:
    """A plan that goes through these behaviours and stays at the last one."""
    return lambda number, _body: behaviours[min(number, len(behaviours) - 1)]


def with_asker(
    ledger: Ledger, settings: BlackBoxSettings, use: Callable[[Asker], Coroutine[Any, Any, Any]], run_name: str = "run"
) -> Any:
    """What `use` returns or raises with an asker in an event loop of its own."""

    async def within() -> Any:
        asker = Asker(ledger, ChatEndpoint(settings), settings, run_name, QUICK)
        try:
            return await use(asker)
        finally:
            await asker.endpoint.close()

    return asyncio.run(within())


def ask(ledger: Ledger, settings: BlackBoxSettings, slot: int = 0, run_name: str = "run") -> ChatReply:
    reply: ChatReply = with_asker(ledger, settings, lambda asker: asker.ask(request(slot), 3, 2, 1), run_name)
    return reply


def ask_many(ledger: Ledger, settings: BlackBoxSettings, slots: Sequence[int]) -> list[Any]:
    """Replies and exceptions, in the order of the slots."""

    async def all_of_them(asker: Asker) -> list[Any]:
        asked = [asker.ask(request(slot)) for slot in slots]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    outcomes: list[Any] = with_asker(ledger, settings, all_of_them)
    return outcomes


async def arrived(server: FaultServer, requests: int) -> None:
    """Wait until the server, which runs in another thread, has seen so many requests."""
    while len(server.requests) < requests:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def one_failed(ledger: Ledger) -> None:
    """Wait until the ledger has an attempt that failed."""
    while all(attempt["state"] != "failed" for attempt in attempts(ledger)):  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def attempts(ledger: Ledger) -> list[dict[str, Any]]:
    """All attempts in the order they were begun."""
    frame, _ = ledger.query_anywhere("select * from api_attempts order by attempt")
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def call_state(ledger: Ledger, server: FaultServer, slot: int = 0) -> str | None:
    row = calls.find(ledger, request(slot).key(ChatEndpoint(settings(server)).origin))
    return row.state if row else None
