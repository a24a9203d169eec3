"""The question of a round: rank the candidates and write a better response (Paper: Section 2.2).

Each ask shows the candidates in an order of its own. Leaves out the prompt and the reading of answers
(`cyclealign.method`), asking (`tasks.asking.questions`) and rounds (`tasks.cycle.loop`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from cyclealign.black_box.capabilities import body_of
from cyclealign.method.answers import Answer, read_ranking_answer, refuse_copy
from cyclealign.method.demonstrations import Demonstration
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.method.rankings import shuffled_order, to_candidates
from cyclealign.records import ChatReply, Prompt
from cyclealign.seeds import derive_seed
from cyclealign.settings import Settings
from storage.rounds import SampledRound
from tasks.asking.questions import Question, Slot

T = TypeVar("T")


def ranking_question(
    settings: Settings,
    sampled: SampledRound,
    prompt: Prompt,
    demonstrations: Sequence[Demonstration],
    left_out: int = 0,
) -> Question[Answer]:
    """What the black box is asked in one round; `demonstrations` stand in the order they are shown.

    The question gets shorter by the oldest demonstration, the static one last; `left_out` were taken out before.
    """
    place, rewrite = (sampled.step, sampled.round), settings.method.rewrite != "off"
    candidates = [response.text for response in sampled.responses]

    def request(ask: int) -> tuple[dict[str, Any], Slot]:
        shown = [candidates[candidate] for candidate in shown_order(settings, sampled, ask)]
        text = render_ranking_prompt(prompt.instruction, shown, demonstrations, rewrite=rewrite)
        seed = derive_seed(settings.seed, "black box", *place, ask)
        # the words of the question are in the call's key beside the slot: whatever else two runs differ in, what both
        # ask in the same place under the same seed is bought once
        return body_of(settings.black_box, text, seed), ("round", settings.seed, *place, ask)

    def read(reply: ChatReply, ask: int) -> Answer:
        answer = read_answer(reply, shown_order(settings, sampled, ask), rewrite)
        refuse_copy(answer, prompt.instruction, candidates)
        return answer

    def shorter() -> Question[Answer]:
        return ranking_question(settings, sampled, prompt, without_oldest(demonstrations), left_out + 1)

    asks, can_shorten = settings.black_box.asks, bool(demonstrations)
    return Question("ranking", request, read, asks, *place, shorter if can_shorten else None, left_out)


def without_oldest(shown: Sequence[T]) -> Sequence[T]:
    """What is left of the demonstrations of a prompt without the oldest dynamic one, or without the static one."""
    return [*shown[:1], *shown[2:]] if len(shown) > 1 else []


def shown_order(settings: Settings, sampled: SampledRound, ask: int) -> tuple[int, ...]:
    """The order in which an ask shows the candidates: element i is the id of the candidate at position i."""
    seed = derive_seed(settings.seed, "shuffle", sampled.step, sampled.round, ask)
    return shuffled_order(len(sampled.responses), seed, settings.method.shuffle)


def read_answer(reply: ChatReply, order: Sequence[int], rewrite: bool) -> Answer:
    """The answer to a ranking prompt that showed the candidates in this order.

    Raises:
        AnswerRejected: with the reason.
    """
    said = (reply.content, reply.finish_reason, reply.refusal)
    answer = read_ranking_answer(*said, len(order), rewrite=rewrite)
    return replace(answer, ranking=to_candidates(answer.ranking, order))
