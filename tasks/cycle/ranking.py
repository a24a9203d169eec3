"""Asking the black box to rank: from a question to a ranking in candidate ids, or why there is none.

One question takes up to `black_box.asks` asks. Each ask shows the candidates in an order of its own and is a
slot of its own, so that a rejected answer is never read twice. Leaves out: the prompt and the reading of
answers (`cyclealign.method`), paying and recording (`tasks.asking.protocol`), rounds (`tasks.cycle.loop`).
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from cyclealign.black_box.capabilities import parameters_for
from cyclealign.errors import CallFailed, CallRejected
from cyclealign.method.answers import AnswerRejected, read_ranking_answer
from cyclealign.method.demonstrations import Demonstration
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.method.rankings import shuffled_order, to_candidates
from cyclealign.records import Answer, ChatReply, ChatRequest, Message, Prompt, Unranked
from cyclealign.seeds import derive_seed
from cyclealign.settings import BlackBoxSettings, MethodSettings
from tasks.asking.protocol import Asker


@dataclass(frozen=True, slots=True)
class RankingQuestion:
    """What the black box is asked to rank in one round.

    `demonstrations` are numbered, in the order they are shown.
    """

    step: int
    round: int
    prompt: Prompt
    candidates: tuple[str, ...]
    demonstrations: tuple[tuple[int, Demonstration], ...]
    run_seed: int


@dataclass(frozen=True, slots=True)
class RankingOutcome:
    """An answer, or why there is none: exactly one of the two is set."""

    answer: Answer | None
    unranked: Unranked | None
    call_key: str
    """Of the last ask."""
    asks: int
    permutation: tuple[int, ...]
    """Of the last ask: element i is the id of the candidate shown at position i."""
    seconds: float
    """From the question to the outcome, all asks and waits together."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """One ask of a question: the request and the order in which it shows the candidates."""

    request: ChatRequest
    order: tuple[int, ...]


async def rank(
    asker: Asker, question: RankingQuestion, method: MethodSettings, black_box: BlackBoxSettings
) -> RankingOutcome:
    """Have the black box rank the candidates of one round and write a better response (Paper: Section 2.2).

    Raises:
        RunPaused: no call gets through, or the cap is reached.
    """
    started = time.monotonic()
    for number in range(black_box.asks):
        ask = _ask(question, number, method, black_box)
        try:
            reply = await asker.ask(ask.request, question.step, question.round, number)
        except CallFailed as error:
            result: Answer | Unranked = _unanswered(error)
            break  # a call that cannot be made is not worth another ask
        result = _read(reply, ask.order, method)
        await asker.record_verdict(ask.request, result.reason if isinstance(result, Unranked) else "accepted")
        if isinstance(result, Answer):
            break
    return RankingOutcome(
        answer=result if isinstance(result, Answer) else None,
        unranked=result if isinstance(result, Unranked) else None,
        call_key=asker.key(ask.request),
        asks=number + 1,
        permutation=ask.order,
        seconds=time.monotonic() - started,
    )


async def rank_all(
    asker: Asker, questions: Sequence[RankingQuestion], method: MethodSettings, black_box: BlackBoxSettings
) -> list[RankingOutcome]:
    """The outcomes of all questions, asked at the same time, in the order of the questions.

    Raises:
        RunPaused: for at least one question; the others are finished first, so that no paid answer is lost.
    """
    tasks = [rank(asker, question, method, black_box) for question in questions]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    outcomes: list[RankingOutcome] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        outcomes.append(result)
    return outcomes


class Desk(Protocol):
    """Where the training loop hands in its questions."""

    def submit(self, questions: Sequence[RankingQuestion]) -> "Future[list[RankingOutcome]]":
        """Have these questions answered; returns at once."""
        ...


class RankingDesk:
    """Takes questions from the training loop and has them answered meanwhile, in a thread of its own.

    Args:
        asker: Belongs to this desk from now on; its endpoint is closed with it.
        method: Number of candidates, shuffling, rewrite.
        black_box: Asks and parameters.
    """

    def __init__(self, asker: Asker, method: MethodSettings, black_box: BlackBoxSettings) -> None:
        parameters_for(black_box, None)  # a parameter that the model does not take is known now
        self._asker = asker
        self._method = method
        self._black_box = black_box
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ranking-desk", daemon=True)
        self._thread.start()

    def submit(self, questions: Sequence[RankingQuestion]) -> "Future[list[RankingOutcome]]":
        """Ask these questions; returns at once. The future holds what `rank_all` returns or raises."""
        return asyncio.run_coroutine_threadsafe(
            rank_all(self._asker, questions, self._method, self._black_box), self._loop
        )

    def close(self) -> None:
        """Send nothing any more, let calls under way record their answers, and end the thread.

        Takes as long as the slowest of those calls, at most `black_box.timeout_s`.
        """
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> "RankingDesk":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _finish(self) -> None:
        self._asker.stop()
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._asker.endpoint.close()
        await self._loop.shutdown_default_executor()


def _ask(question: RankingQuestion, number: int, method: MethodSettings, black_box: BlackBoxSettings) -> _Ask:
    place = (question.step, question.round, number)
    order = shuffled_order(len(question.candidates), derive_seed(question.run_seed, "shuffle", *place), method.shuffle)
    text = render_ranking_prompt(
        question.prompt.instruction,
        [question.candidates[candidate] for candidate in order],
        [demonstration for _, demonstration in question.demonstrations],
        rewrite=method.rewrite != "off",
    )
    request = ChatRequest(
        purpose="ranking",
        model=black_box.model,
        messages=(Message("user", text),),
        parameters=parameters_for(black_box, derive_seed(question.run_seed, "black box", *place)),
        # the words of the question are in the call's key beside it: whatever else two runs differ in, what both
        # ask in the same place under the same seed is bought once
        slot=("round", question.run_seed, *place),
    )
    return _Ask(request, order)


def _read(reply: ChatReply, order: tuple[int, ...], method: MethodSettings) -> Answer | Unranked:
    try:
        positions, rewrite = read_ranking_answer(
            reply.content, reply.finish_reason, reply.refusal, len(order), rewrite=method.rewrite != "off"
        )
    except AnswerRejected as error:
        return Unranked(error.reason, error.detail)
    return Answer(to_candidates(positions, order), rewrite)


def _unanswered(error: CallFailed) -> Unranked:
    if not isinstance(error, CallRejected):
        return Unranked("call_failed", str(error))
    return Unranked("content_filter" if error.kind == "content_filter" else "call_rejected", str(error))
