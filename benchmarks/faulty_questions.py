"""The questions of `benchmarks.faults`, and asking them all at once over the path that the training loop takes."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.errors import RunPaused
from cyclealign.records import Prompt, Turn
from cyclealign.settings import BlackBoxSettings, MethodSettings, PriceSettings
from storage.ledger import Ledger
from tasks.asking.pace import Backoff
from tasks.asking.protocol import Asker
from tasks.cycle.ranking import RankingOutcome, RankingQuestion, rank

RUN = "faults"
CONCURRENCY = 16
CANDIDATES = ("cherry", "apple", "banana")
MARKS = ("prose", "duplicates", "cut", "filtered", "breaks", "unacceptable")
"""Words in brackets by which a server may know questions that it never answers well."""
PRICE = PriceSettings(input=1.0, output=2.0)
"""US dollars per million tokens."""
TIMEOUT_S = 3.0
QUICK = Backoff(first_s=0.02, most_s=0.5)
Outcome = RankingOutcome | RunPaused


@dataclass(frozen=True, slots=True)
class Asking:
    """What asking all questions came to, in their order, and how long it took."""

    outcomes: list[Outcome]
    seconds: float


def questions(count: int) -> list[RankingQuestion]:
    """So many different questions; every fiftieth carries the first mark, the one after it the second, and so on."""
    return [
        RankingQuestion(
            step=step,
            round=1,
            prompt=Prompt.from_turns("helpful-base", "train", [Turn("human", words(step))]),
            candidates=CANDIDATES,
            demonstrations=(),
            run_seed=0,
        )
        for step in range(count)
    ]


def words(step: int) -> str:
    """What a question says."""
    place = step % 50
    mark = f" [{MARKS[place]}]" if place < len(MARKS) else ""
    return f"Which fruit is best in month {step}?{mark}"


def rankings(outcomes: Sequence[Outcome]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Of every answered question: the ranking, and the order in which its candidates were shown."""
    done = [one for one in outcomes if isinstance(one, RankingOutcome)]
    return [(one.answer.ranking, one.permutation) for one in done if one.answer]


def ask_all(ledger: Ledger, url: str, asked: Sequence[RankingQuestion], cap_usd: float) -> Asking:
    """The outcomes of all questions, asked at the same time; where the cap or a refusal stopped one, that."""
    settings = BlackBoxSettings(
        base_url=url, model="some-model", concurrency=CONCURRENCY, timeout_s=TIMEOUT_S, budget_usd=cap_usd, price=PRICE
    )
    started = time.monotonic()
    outcomes = asyncio.run(_ask_all(ledger, settings, asked))
    return Asking(outcomes, time.monotonic() - started)


async def _ask_all(ledger: Ledger, settings: BlackBoxSettings, asked: Sequence[RankingQuestion]) -> list[Outcome]:
    asker = Asker(ledger, ChatEndpoint(settings), settings, RUN, QUICK)
    try:
        return list(await asyncio.gather(*[_outcome(asker, one, settings) for one in asked]))
    finally:
        await asker.endpoint.close()


async def _outcome(asker: Asker, question: RankingQuestion, settings: BlackBoxSettings) -> Outcome:
    try:
        return await rank(asker, question, MethodSettings(), settings)
    except RunPaused as pause:
        return pause
