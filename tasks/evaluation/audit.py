"""The judge audit: asks a seeded share of a run's recorded rankings again under another permutation.

The question is the recorded one to the letter, demonstrations included, except for the order of the candidates; of a
refold it is that of the run that asked, whatever the refold makes of the answers. It goes through the ledger and the
cap like any other, under the purpose `audit`. Nothing of the run changes. Leaves out the figures
(`cyclealign.judge_audit`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from prefect import task
from prefect.cache_policies import NO_CACHE

from cyclealign.black_box.capabilities import parameters_for
from cyclealign.method.answers import read_ranking_answer
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.method.rankings import shuffled_order, to_candidates
from cyclealign.records import ChatReply, ChatRequest, Message
from cyclealign.seeds import derive_seed
from cyclealign.settings import BlackBoxSettings
from storage import audits
from storage.audits import AuditedRanking, RecordedRanking
from tasks.asking.channels import Channel
from tasks.asking.inquiry import Finding, Question, put_questions
from tasks.context import RunContext
from tasks.cycle.progress import say, stage


@dataclass(frozen=True, slots=True)
class _Again:
    """A ranking in candidate ids, and the order in which they were shown."""

    ranking: tuple[int, ...]
    order: tuple[int, ...]


@task(name="audit rankings", cache_policy=NO_CACHE)
def audit_rankings(context: RunContext, channel: Channel, share: float, seed: int) -> int:
    """Ask for the chosen rankings that this audit has not settled yet; returns how many were asked for.

    A larger share under the same seed holds the smaller one.

    Raises:
        RunPaused: no call gets through, or the cap is reached.
    """
    chosen = choose(audits.recorded(context.ledger, context.name), share, seed)
    settled = audits.settled(context.ledger, context.name, seed)
    left = [one for one in chosen if (one.step, one.round) not in settled]
    portion = channel.portion or max(1, len(left))
    with stage(f"Audit: {len(chosen)} rankings asked again in another order") as report:
        for start in range(0, len(left), portion):
            _ask_again(context, channel, left[start : start + portion], seed)
            report("rankings", min(1.0, (start + portion) / len(left)))
    say(f"  {len(left)} asked for, {len(chosen) - len(left)} reused")
    return len(left)


def choose(recorded: Sequence[RecordedRanking], share: float, seed: int) -> list[RecordedRanking]:
    """A seeded share of the rankings, rounded up."""
    drawn = sorted(recorded, key=lambda one: derive_seed(seed, "audit", one.step, one.round))
    return drawn[: math.ceil(share * len(drawn))]


def other_order(permutation: Sequence[int], *place: int) -> tuple[int, ...]:
    """A seeded order of presentation that is not the recorded one."""
    drawn = (shuffled_order(len(permutation), derive_seed("audit order", *place, attempt)) for attempt in count())
    return next(order for order in drawn if order != tuple(permutation))


def _ask_again(context: RunContext, channel: Channel, rankings: Sequence[RecordedRanking], seed: int) -> None:
    settings, rewrite = context.settings.black_box, _asking_run(context).settings.method.rewrite != "off"
    questions = [_question(one, settings, rewrite, seed) for one in rankings]
    findings = put_questions(context.ledger, channel, questions)
    found = [_audited(one, finding, seed) for one, finding in zip(rankings, findings, strict=True)]
    audits.put(context.ledger, context.name, seed, found)


def _asking_run(context: RunContext) -> RunContext:
    """The run of the cycle whose rounds these are: a refold's source, or that one's."""
    return context if context.source is None else _asking_run(context.source)


def _question(one: RecordedRanking, settings: BlackBoxSettings, rewrite: bool, seed: int) -> Question[_Again]:
    orders = [other_order(one.permutation, seed, one.step, one.round, ask) for ask in range(settings.asks)]
    requests = [_request(one, order, ask, settings, rewrite, seed) for ask, order in enumerate(orders)]

    def read(reply: ChatReply, ask: int) -> _Again:
        answer = (reply.content, reply.finish_reason, reply.refusal)
        positions, _ = read_ranking_answer(*answer, len(one.candidates), rewrite=rewrite)
        return _Again(to_candidates(positions, orders[ask]), orders[ask])

    return Question(tuple(requests), read)


def _request(  # noqa: PLR0913, PLR0917  the parts of one question
    one: RecordedRanking, order: Sequence[int], ask: int, settings: BlackBoxSettings, rewrite: bool, seed: int
) -> ChatRequest:
    shown = [one.candidates[candidate] for candidate in order]
    text = render_ranking_prompt(one.instruction, shown, one.demonstrations, rewrite=rewrite)
    place = (seed, one.step, one.round, ask)
    return ChatRequest(
        purpose="audit",
        model=settings.model,
        messages=(Message("user", text),),
        parameters=parameters_for(settings, derive_seed("audit", *place)),
        slot=("audit", *place),
    )


def _audited(one: RecordedRanking, finding: Finding[_Again], seed: int) -> AuditedRanking:
    again = finding.value
    return AuditedRanking(
        step=one.step,
        round=one.round,
        permutation=again.order if again else other_order(one.permutation, seed, one.step, one.round, 0),
        ranking=again.ranking if again else None,
        reason=finding.reason,
        call_key=finding.call_key,
    )
