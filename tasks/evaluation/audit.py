"""The judge audit: asks a seeded share of a run's recorded rankings again under another permutation.

The question is the recorded one to the letter, demonstrations included, except for the order of the candidates; of a
refold it is that of the run that asked, whatever the refold makes of the answers. It goes through the ledger and the
cap like any other, under the purpose `audit`. Nothing of the run changes. Leaves out the figures
(`cyclealign.judges`).
"""

import math
from collections.abc import Sequence
from itertools import count
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from cyclealign.black_box.capabilities import body_of
from cyclealign.method.answers import Answer
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.method.rankings import shuffled_order
from cyclealign.records import ChatReply
from cyclealign.seeds import derive_seed
from cyclealign.settings import BlackBoxSettings
from storage import audits
from storage.audits import AuditedRanking, RecordedRanking
from tasks.asking.questions import Asker, Question, Result, Slot
from tasks.context import RunContext
from tasks.cycle.progress import say, stage
from tasks.cycle.ranking import read_answer


@task(name="audit rankings", cache_policy=NO_CACHE)
def audit_rankings(context: RunContext, asker: Asker, share: float, seed: int) -> int:
    """Ask for the chosen rankings that this audit has not settled yet; returns how many were asked for.

    A larger share under the same seed holds the smaller one.

    Raises:
        RunPaused: no call gets through, or the cap is reached.
    """
    black_box, rewrite = context.settings.black_box, _asking_run(context).settings.method.rewrite != "off"
    chosen = choose(audits.recorded(context.ledger, context.name), share, seed)
    settled = audits.settled(context.ledger, context.name, seed)
    left = [one for one in chosen if (one.step, one.round) not in settled]
    with stage(f"Audit: {len(chosen)} rankings asked again in another order") as report:
        for some, done in asker.portions(left):
            results = asker.ask([_question(one, black_box, rewrite, seed) for one in some])
            found = [_audited(context.name, one, result, seed) for one, result in zip(some, results, strict=True)]
            context.ledger.record(*found)
            report("rankings", done)
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


def _asking_run(context: RunContext) -> RunContext:
    """The run of the cycle whose rounds these are: a refold's source, or that one's."""
    return context if context.source is None else _asking_run(context.source)


def _question(one: RecordedRanking, settings: BlackBoxSettings, rewrite: bool, seed: int) -> Question[Answer]:
    place = (seed, one.step, one.round)

    def request(ask: int) -> tuple[dict[str, Any], Slot]:
        shown = [one.candidates[candidate] for candidate in other_order(one.permutation, *place, ask)]
        text = render_ranking_prompt(one.instruction, shown, one.demonstrations, rewrite=rewrite)
        return body_of(settings, text, derive_seed("audit", *place, ask)), ("audit", *place, ask)

    def read(reply: ChatReply, ask: int) -> Answer:
        return read_answer(reply, other_order(one.permutation, *place, ask), rewrite)

    return Question("audit", request, read, settings.asks)


def _audited(run_name: str, one: RecordedRanking, result: Result[Answer], seed: int) -> AuditedRanking:
    return AuditedRanking(
        run_name=run_name,
        audit_seed=seed,
        step=one.step,
        round=one.round,
        permutation=other_order(one.permutation, seed, one.step, one.round, result.asks - 1),
        ranking=result.answer.ranking if result.answer else None,
        reason=result.reason,
        call_key=result.call_key,
    )
