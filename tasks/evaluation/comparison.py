"""The pairwise judge: has a chat-completions model compare the responses of two systems (Paper: Section 3.2, Table 2).

Both orders by default; disagreement is a tie and counted as inconsistent (`comparison_outcomes` in the schema).
Responses with the same text are a tie without asking. What could not be judged is recorded as missing with its
reason, never dropped. Leaves out the prompt (`cyclealign.method.comparison_prompt`) and the figures
(`cyclealign.pairwise`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from cyclealign.black_box.capabilities import parameters_for
from cyclealign.method.comparison_prompt import Verdict, read_comparison_answer, render_comparison_prompt, wording
from cyclealign.records import ChatReply, ChatRequest, Message, Prompt
from cyclealign.seeds import derive_seed
from cyclealign.settings import BlackBoxSettings
from storage import comparisons
from storage.comparisons import Comparison
from storage.evaluations import Generation
from storage.ledger import Ledger
from tasks.asking.channels import Account, Channel
from tasks.asking.inquiry import Question, put_questions
from tasks.cycle.progress import Report
from tasks.evaluation.responders import EVALUATION_SEED

IDENTICAL = "identical responses"


@dataclass(frozen=True)
class Pair:
    """Two systems' responses to one prompt."""

    prompt: Prompt
    response: Generation
    against: Generation


@dataclass(frozen=True)
class Match:
    """Two systems on the prompts of one subset, before one judge."""

    ledger: Ledger
    system: str
    against: str
    subset: str
    pairs: tuple[Pair, ...]
    settings: BlackBoxSettings
    """The judge's."""
    judge: str
    """Its identity, see `judge_identity`."""
    both_orders: bool


@dataclass(frozen=True)
class MatchCount:
    """What a match took: verdicts that were asked for, reused, settled without asking, and missing now."""

    asked: int
    reused: int
    identical: int
    missing: int


def judge_identity(account: Account) -> str:
    """Model, endpoint, and a digest of the parameters and the prompt's wording: all that decides a verdict."""
    parameters = parameters_for(account.settings, None)
    text = json.dumps([parameters, account.settings.seed, wording()], sort_keys=True)
    return f"{account.settings.model} ({account.origin}, {hashlib.sha256(text.encode()).hexdigest()[:8]})"


def _match_name() -> str:
    match: Match = task_run.parameters["match"]
    return f"compare {match.system} {match.against} {match.subset}"


@task(task_run_name=_match_name, cache_policy=NO_CACHE)
def play(match: Match, channel: Channel, report: Report) -> MatchCount:
    """Ask for the verdicts that are missing, a portion of prompts at a time, each portion committed.

    Raises:
        RunPaused: no call gets through, or the cap is reached.
    """
    shown = [_orders_of(pair, match.both_orders) for pair in match.pairs]
    open_ = _open(match, shown)
    portion = channel.portion or max(1, len(open_))
    found: list[Comparison] = []
    for start in range(0, len(open_), portion):
        some = [order for orders in open_[start : start + portion] for order in orders]
        found += _compare(match, channel, some)
        report(match.subset, min(1.0, (start + portion) / len(open_)))
    return MatchCount(
        asked=sum(one.call_key is not None for one in found),
        reused=sum(map(len, shown)) - len(found),
        identical=sum(one.reason == IDENTICAL for one in found),
        missing=sum(one.verdict == "missing" for one in found),
    )


def open_questions(matches: Sequence[Match]) -> list[ChatRequest]:
    """The first asks of all questions that the matches have without a verdict."""
    requests: list[ChatRequest] = []
    for match in matches:
        shown = [_orders_of(pair, match.both_orders) for pair in match.pairs]
        orders = [order for orders in _open(match, shown) for order in orders if not order.identical]
        requests += [_question(match.settings, order).asks[0] for order in orders]
    return requests


@dataclass(frozen=True)
class _Order:
    """A pair in one order of presentation."""

    prompt: Prompt
    first: Generation
    second: Generation

    @property
    def identical(self) -> bool:
        """Whether there is nothing to choose between."""
        return self.first.text == self.second.text

    def comparison_id(self, judge: str) -> str:
        """Identity of the judge's verdict on it."""
        return comparisons.comparison_id(self.first.generation_id, self.second.generation_id, judge)


def _orders_of(pair: Pair, both: bool) -> list[_Order]:
    orders = [_Order(pair.prompt, pair.response, pair.against), _Order(pair.prompt, pair.against, pair.response)]
    # the same pair is shown in the same order whichever of its systems is named first
    orders.sort(key=lambda order: order.first.generation_id)
    seed = derive_seed(EVALUATION_SEED, "comparison", *(order.first.generation_id for order in orders))
    return orders if both else [orders[seed % 2]]


def _open(match: Match, shown: Sequence[Sequence[_Order]]) -> list[list[_Order]]:
    """The orders without a verdict, those of a pair together: they are committed together."""
    ids = [order.comparison_id(match.judge) for orders in shown for order in orders]
    known = comparisons.found(match.ledger, ids)
    settled = {key for key, one in known.items() if one.verdict != "missing"}
    left = ([one for one in orders if one.comparison_id(match.judge) not in settled] for orders in shown)
    return [orders for orders in left if orders]


def _compare(match: Match, channel: Channel, orders: Sequence[_Order]) -> list[Comparison]:
    same = [one for one in orders if one.identical]
    differing = [one for one in orders if not one.identical]
    findings = put_questions(match.ledger, channel, [_question(match.settings, one) for one in differing])
    found = [_comparison(match, one, "tie", IDENTICAL) for one in same]
    for order, finding in zip(differing, findings, strict=True):
        verdict = finding.value or "missing"
        found.append(_comparison(match, order, verdict, finding.reason, finding.call_key))
    comparisons.put(match.ledger, found)
    return found


def _question(settings: BlackBoxSettings, order: _Order) -> Question[Verdict]:
    text = render_comparison_prompt(order.prompt.instruction, order.first.text, order.second.text)
    return Question(tuple(_request(settings, text, ask) for ask in range(settings.asks)), _read)


def _request(settings: BlackBoxSettings, text: str, ask: int) -> ChatRequest:
    return ChatRequest(
        purpose="comparison",
        model=settings.model,
        messages=(Message("user", text),),
        parameters=parameters_for(settings, derive_seed(EVALUATION_SEED, "comparison", ask)),
        # the texts are in the call's key: the same question is bought once, whichever runs and systems meet in it
        slot=("comparison", EVALUATION_SEED, ask),
    )


def _read(reply: ChatReply, _ask: int) -> Verdict:
    return read_comparison_answer(reply.content, reply.finish_reason, reply.refusal)


def _comparison(
    match: Match, order: _Order, verdict: comparisons.Verdict, reason: str | None, call_key: str | None = None
) -> Comparison:
    return Comparison(
        first_generation_id=order.first.generation_id,
        second_generation_id=order.second.generation_id,
        judge=match.judge,
        judge_kind="model",
        verdict=verdict,
        reason=reason,
        call_key=call_key,
    )
