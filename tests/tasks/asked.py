"""Questions to the model server, asked on the account of a run, and what the ledger has of them."""

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.method.comparison_prompt import parse_comparison_prompt
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.records import ChatReply, Prompt, Turn
from cyclealign.settings import BlackBoxSettings, PriceSettings
from storage import calls
from storage.ledger import Ledger
from tasks.asking.pace import Backoff
from tasks.asking.protocol import Account, Direct
from tasks.asking.questions import Asker, Question, Result, Slot
from tests.black_box.model_server import USAGE, ModelServer, answer

QUICK = Backoff(first_s=0.01, most_s=0.05)
PRICE = PriceSettings(input=1000, output=1000)
"""US dollars per million tokens: 0.1 cent a token."""
COST = Decimal(USAGE["prompt_tokens"] + USAGE["completion_tokens"]) / 1000
RANKING = render_ranking_prompt("Human: hello\n\nAssistant:", ["b", "a", "c"], ())


def account(ledger: Ledger, server: ModelServer, run_name: str = "run", **changes: Any) -> Account:
    """The account of a run with the server's model."""
    defaults = {
        "base_url": server.url,
        "model": "some-model",
        "asks": 2,
        "attempts": 4,
        "timeout_s": 10,
        "price": PRICE,
    }
    settings = BlackBoxSettings.model_validate({**defaults, **changes})
    return Account(ledger, run_name, settings, lambda: ChatEndpoint(settings))


def request(slot: int = 0, text: str = RANKING) -> tuple[dict[str, Any], Slot]:
    """Body and slot of a question."""
    return {"model": "some-model", "messages": [{"role": "user", "content": text}], "max_tokens": 20}, (slot,)


def question(slot: int = 0, text: str = RANKING) -> Question[ChatReply]:
    """Asked once; whatever comes back is its answer."""
    return Question("ranking", lambda _ask: request(slot, text), lambda reply, _ask: reply)


def key(asked: Account, slot: int = 0) -> str:
    """The call key of a question."""
    return calls.call_key(request()[0], asked.origin, (slot,))


def ask_all(asked: Account, slots: Sequence[int] = (0,)) -> list[Result[ChatReply] | BaseException]:
    """The result of each question, or what its asking raised."""
    with Asker(Direct(asked, QUICK)) as asker:
        futures = [asker.submit([question(slot)]) for slot in slots]
        return [future.exception() or future.result()[0] for future in futures]


def ask(asked: Account, slot: int = 0) -> Result[ChatReply]:
    """The result of one question, which is not paused."""
    (found,) = ask_all(asked, [slot])
    if isinstance(found, BaseException):
        raise found
    return found


def script(*behaviours: str) -> Callable[[int, dict[str, Any]], str]:
    """A plan that goes through these behaviours and stays at the last one."""
    return lambda number, _body: behaviours[min(number, len(behaviours) - 1)]


def rows(ledger: Ledger, statement: str) -> list[dict[str, Any]]:
    """The rows that answer a statement."""
    frame = ledger.query(statement)
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def attempts(ledger: Ledger) -> list[dict[str, Any]]:
    """All attempts in the order they were begun."""
    return rows(ledger, "select * from api_attempts order by started_at")


def call_states(ledger: Ledger) -> list[str]:
    return [row["state"] for row in rows(ledger, "select state from api_calls order by state")]


def spent(ledger: Ledger, run_name: str = "run") -> Decimal:
    return calls.spend(ledger, run_name)


def prompt(number: int) -> Prompt:
    """One of many prompts."""
    return Prompt.from_turns("helpful-base", "test", [Turn("human", f"Question {number}?")])


def longer_wins(body: dict[str, Any]) -> str:
    """A judge that likes length; of the probe it knows the answer."""
    if "desired rank" in body["messages"][-1]["content"]:
        return answer([1, 0])
    shown = parse_comparison_prompt(body["messages"][-1]["content"])
    gap = len(shown.first) - len(shown.second)
    return verdict("first" if gap > 0 else "second" if gap < 0 else "tie")


def verdict(word: str) -> str:
    """An answer to a comparison prompt."""
    return json.dumps({"reasoning": "Because.", "verdict": word})
