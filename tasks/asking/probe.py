"""The first question to an endpoint: a small one with a known right answer, which finds out what the endpoint takes.

At most three calls per endpoint, model and settings: as the settings say, then without what the refusal names, then
bare. What was found is a fact: every later question is sent in that form, and nothing is tried twice.
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from cyclealign.black_box.capabilities import LIMITS, OPTIONAL, body_of, parameters_of
from cyclealign.black_box.failures import AGAIN
from cyclealign.errors import CallRejected, EndpointRefused
from cyclealign.method.answers import AnswerRejected, read_ranking_answer
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.records import ChatReply
from storage import calls
from storage.calls import Attempt, Probe
from tasks.asking.protocol import Account, Direct
from tasks.cycle.progress import say

QUESTION: Final = render_ranking_prompt(
    "Human: What is two plus three?\n\nAssistant:",
    ["Bananas are yellow.", "Two plus three is five."],
    (),
    rewrite=False,
)
RIGHT: Final = (1, 0)
MOST_CALLS: Final = 3
SPOKEN: Final[Mapping[str, str]] = {"response_format": r"response.?format|json.?(object|mode|schema)|structured"}
"""How refusals name a parameter, where it is not by its name alone."""


async def probe(account: Account) -> Probe:
    """What the endpoint takes: as it was found before, or found out now on the run's account.

    Raises:
        EndpointRefused: it takes our questions in no form, or its answers end before they begin.
        BudgetReached: not even the probe fits under the cap.
    """
    body = body_of(account.settings, QUESTION, 0)
    wanted = parameters_of(body)
    settings = json.dumps(wanted, sort_keys=True)
    known = calls.probed(account.ledger, account.origin, account.settings.model, settings)
    if known is not None:
        return known
    found = Probe(account.origin, account.settings.model, settings, (), limit_of(wanted), "")
    reply: ChatReply | CallRejected | None = None
    for number in range(MOST_CALLS):
        if isinstance(reply, CallRejected):
            found = _without_what_was_refused(found, wanted, reply, last=number + 1 == MOST_CALLS)
        reply = await _send(account, fitted(body, found))
        if isinstance(reply, ChatReply):
            break
    if not isinstance(reply, ChatReply):
        raise EndpointRefused(
            f"The endpoint {account.origin} takes our questions in no form: {reply} The last one was sent with "
            f"{', '.join(fitted(wanted, found))} alone. Expected chat completions of the OpenAI protocol: check "
            f"{account.section}.base_url and {account.section}.model. {AGAIN}",
            kind="parameter",
        )
    found = _read(account, found, reply)
    account.ledger.record(found)
    if found.left_out or found.token_limit != limit_of(wanted):
        say(f"  {found.model}: the endpoint refuses {_named(found, wanted)}; our questions go without")
    if found.answer:
        say(f"  {found.model}: the probe's answer {found.answer}")
    return found


def fitted(body: Mapping[str, Any], found: Probe) -> dict[str, Any]:
    """A request's body, or its parameters, in the form that the endpoint takes."""
    kept = {name: value for name, value in body.items() if name not in found.left_out}
    return {found.token_limit if name in LIMITS else name: value for name, value in kept.items()}


def limit_of(parameters: Mapping[str, Any]) -> str:
    """The name under which the limit on completion tokens is sent."""
    return next(name for name in LIMITS if name in parameters)


async def _send(account: Account, body: dict[str, Any]) -> ChatReply | CallRejected:
    """One call of the probe; a slot of its own each time, since what an endpoint refused it may take after mending."""
    way, slot = Direct(account), ("probe", secrets.token_hex(8))
    key = calls.call_key(body, account.origin, slot)
    reserved = way.prices.reserve_usd(body)
    call = Attempt(
        call_key=key,
        run_name=account.run_name,
        purpose="probe",
        model=body["model"],
        origin=account.origin,
        slot=slot,
        step=None,
        round=None,
        ask=None,
        request=body,
        reserved_usd=reserved,
    )
    try:
        (reply,) = await way.send([call])
    except EndpointRefused as refusal:
        if refusal.kind != "parameter":
            raise
        return CallRejected(str(refusal), kind=refusal.kind, http_status=refusal.http_status)
    finally:
        await way.close()
    if isinstance(reply, ChatReply | CallRejected):
        return reply
    raise EndpointRefused(
        f"The endpoint {account.origin} does not answer. {reply} {AGAIN}",
        kind=reply.kind,
        http_status=reply.http_status,
    )


def _without_what_was_refused(found: Probe, wanted: Mapping[str, Any], refusal: CallRejected, *, last: bool) -> Probe:
    """The form to try next: without the parameters that a refusal names, or the likeliest one where it names none."""
    words = str(refusal)
    sent = [name for name in OPTIONAL if name in fitted(wanted, found)]
    named = [name for name in sent if re.search(SPOKEN.get(name, name), words, re.IGNORECASE)]
    other = next(name for name in LIMITS if name != found.token_limit)
    limit = other if found.token_limit in words or not sent else found.token_limit
    if limit == found.token_limit:
        named = named or sent[:1]
    left_out = (*found.left_out, *(sent if last else named))
    return replace(found, left_out=left_out, token_limit=limit)


def _read(account: Account, found: Probe, reply: ChatReply) -> Probe:
    """The finding with what its answer showed; empty where it was the right one.

    Raises:
        EndpointRefused: the answer has no content, because its limit came first.
    """
    answer = ""
    if reply.finish_reason == "length" and not (reply.content or "").strip():
        raise EndpointRefused(
            f"{found.model} at {account.origin} answered a question of one line with nothing: it reached its limit of "
            f"{account.settings.max_tokens} tokens first, as thoughts do. Raise {account.section}.max_tokens or set "
            f"{account.section}.reasoning_effort lower. {AGAIN}",
            kind="truncated",
        )
    try:
        said = read_ranking_answer(reply.content, reply.finish_reason, reply.refusal, len(RIGHT), rewrite=False)
        if said.ranking != RIGHT:
            answer = "ranks a wrong answer above the right one"
    except AnswerRejected as error:
        answer = f"could not be read ({error.reason}: {error.detail})"
    return replace(found, answer=answer)


def _named(found: Probe, wanted: Mapping[str, Any]) -> str:
    renamed = [f"{limit_of(wanted)} (it takes {found.token_limit})"] if found.token_limit != limit_of(wanted) else []
    return ", ".join([*found.left_out, *renamed])
