"""Asking many questions and reading what comes back: each answer is read strictly or has a reason.

A question may be asked several times, each ask a slot of its own, so that a rejected answer is never read
twice. Leaves out the way to the endpoint (`tasks.asking.channels`) and what the answers mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cyclealign.errors import CallFailed, CallRejected
from cyclealign.method.answers import AnswerRejected
from cyclealign.records import ChatReply, ChatRequest
from storage import calls
from storage.ledger import Ledger
from tasks.asking.channels import Channel, Outcome

T = TypeVar("T")
ACCEPTED = "accepted"


@dataclass(frozen=True)
class Question(Generic[T]):
    """What is asked, at most as often as there are `asks`, and how an answer to each ask is read."""

    asks: tuple[ChatRequest, ...]
    read: Callable[[ChatReply, int], T]
    """Takes the reply and the number of the ask; raises `AnswerRejected`."""


@dataclass(frozen=True)
class Finding(Generic[T]):
    """What a question brought: a value, or the reason why there is none."""

    value: T | None
    reason: str | None
    call_key: str
    """Of the last ask."""
    answered: bool = True
    """Whether an answer came at all."""


def put_questions(ledger: Ledger, channel: Channel, questions: Sequence[Question[T]]) -> list[Finding[T]]:
    """The finding for each question, in their order.

    Raises:
        RunPaused: no call gets through, or the cap is reached; what was answered is recorded and read next time.
    """
    findings: dict[int, Finding[T]] = {}
    waiting, number = list(range(len(questions))), 0
    while waiting:
        requests = [questions[place].asks[number] for place in waiting]
        outcomes = channel.outcomes(requests, number)
        for place, request, outcome in zip(waiting, requests, outcomes, strict=True):
            findings[place] = _read(questions[place], outcome, channel.key(request), number)
        calls.record_verdicts(ledger, _verdicts([findings[place] for place in waiting]))
        number += 1
        waiting = [
            place for place in waiting if _worth_another(findings[place]) and number < len(questions[place].asks)
        ]
    return [findings[place] for place in range(len(questions))]


def _read(question: Question[T], outcome: Outcome, call_key: str, ask: int) -> Finding[T]:
    if isinstance(outcome, CallFailed):
        return Finding(None, _unanswered(outcome), call_key, answered=False)
    try:
        return Finding(question.read(outcome, ask), None, call_key)
    except AnswerRejected as error:
        return Finding(None, error.reason, call_key)


def _unanswered(error: CallFailed) -> str:
    if not isinstance(error, CallRejected):
        return "call_failed"
    return "content_filter" if error.kind == "content_filter" else "call_rejected"


def _worth_another(finding: Finding[T]) -> bool:
    """A call that cannot be made is not worth another ask."""
    return finding.reason is not None and finding.answered


def _verdicts(findings: Sequence[Finding[T]]) -> dict[str, str]:
    """What reading said of the answers that came, by call key."""
    return {one.call_key: one.reason or ACCEPTED for one in findings if one.answered}
