"""Prompts, generations and accounts for tests of the evaluation's questions."""

import json
from typing import Any

from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.method.comparison_prompt import parse_comparison_prompt
from cyclealign.records import Prompt, Turn
from cyclealign.settings import BlackBoxSettings
from storage.evaluations import Generation
from storage.ledger import Ledger
from tasks.asking.channels import Account
from tasks.evaluation.comparison import Match, Pair, judge_identity
from tests.tasks.model_server import ModelServer

SETTINGS = {"max_new_tokens": 8}


def account(ledger: Ledger, server: ModelServer, **changes: Any) -> Account:
    """The account of run `run` with the server's model."""
    defaults = {"base_url": server.url, "model": "some-model", "asks": 2, "attempts": 2, "timeout_s": 10}
    settings = BlackBoxSettings.model_validate({**defaults, **changes})
    return Account(ledger, "run", settings, lambda: ChatEndpoint(settings))


def prompt(number: int, subset: str = "helpful-base") -> Prompt:
    """One of many prompts."""
    return Prompt.from_turns(subset, "test", [Turn("human", f"Question {number}?")])


def generation(system: str, one: Prompt, text: str) -> Generation:
    """A system's response."""
    return Generation(system, one.prompt_id, SETTINGS, text, 3, True, 0.0, 0.1)


def pairs(*texts: tuple[str, str]) -> tuple[Pair, ...]:
    """Pairs of these responses, ours first, to a prompt each."""
    asked = [prompt(number) for number in range(len(texts))]
    return tuple(
        Pair(one, generation("ours", one, ours), generation("theirs", one, theirs))
        for one, (ours, theirs) in zip(asked, texts, strict=True)
    )


def match(ledger: Ledger, judge: Account, compared: tuple[Pair, ...], both: bool = True) -> Match:
    """A match of two systems before a judge."""
    return Match(ledger, "after", "PRO", "helpful-base", compared, judge.settings, judge_identity(judge), both)


def longer_wins(body: dict[str, Any]) -> str:
    """A judge that likes length."""
    shown = parse_comparison_prompt(body["messages"][-1]["content"])
    gap = len(shown.first) - len(shown.second)
    return verdict("first" if gap > 0 else "second" if gap < 0 else "tie")


def verdict(word: str) -> str:
    """An answer to a comparison prompt."""
    return json.dumps({"reasoning": "Because.", "verdict": word})
