"""The one loop of the paper (Figure 2), a segment of steps at a time.

A segment is the steps between two checkpoints and one Prefect task run. Its prompts go in waves through their rounds;
one turn of a wave is: sample, rank by confidence, have the black box rank, agree, train. With `training.overlap`
two waves alternate, so that one computes while the other waits for its answers. The order of optimizer steps depends
on the profile alone, never on latencies.

What the ledger already holds is read back instead of sampled or asked: the weights are a fold over the ledger.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from cyclealign.errors import TrainingDiverged
from cyclealign.method.agreement import agreement
from cyclealign.method.answers import Answer
from cyclealign.method.demonstrations import (
    AdmittedDemonstration,
    Demonstration,
    DemonstrationPool,
    dynamic_demonstration,
)
from cyclealign.method.objectives import preference_order
from cyclealign.method.ranking_prompt import presentable
from cyclealign.method.rankings import confidence_ranking, drop_repeated
from cyclealign.records import OptimizerReport, Prompt, TrainingExample, Unranked
from cyclealign.seeds import derive_seed
from cyclealign.settings import Settings
from cyclealign.white_box.device_memory import SAMPLING, SCORING, TRAINING, fitting
from cyclealign.white_box.white_box import WhiteBox
from storage import rounds
from storage.ledger import Ledger
from storage.resumptions import Resumption
from storage.rounds import RankedRound, RecordedRound, SampledRound, TrainedRound
from tasks.asking.questions import Question, Result
from tasks.cycle.progress import Progress
from tasks.cycle.ranking import ranking_question, shown_order, without_oldest
from tasks.cycle.segments import Segment, SegmentSummary
from tasks.devices import device_slots

LOGGER = logging.getLogger("cyclealign")
MOST_CHARACTERS = 20_000
"""Of a dynamic demonstration, some 5,000 tokens: every later ranking prompt shows it and pays for it."""


@dataclass(frozen=True)
class Cycle:
    """The live parts that the rounds of one run work with."""

    ledger: Ledger
    run_name: str
    settings: Settings
    prompts: Sequence[Prompt]
    white_box: WhiteBox
    ask: "Callable[[Sequence[Question[Answer]]], Future[list[Result[Answer]]]]"
    """Asks the black box and returns at once."""
    pool: DemonstrationPool
    progress: Progress
    resumption: Resumption | None
    """None when the run was not begun before."""
    _uncertain: list[SampledRound | RankedRound] = field(default_factory=list)
    """Rounds since the last one that was ranked. Should it turn out that the black box misfits, they did not happen:
    the same command samples and asks again."""

    def prompt(self, step: int) -> Prompt:
        """The prompt of a step as both models see it: where it is too long for the white box, a part is missing."""
        whole = self.prompts[step]
        return replace(whole, turns=self.white_box.fit(whole.turns))

    def record(self, *found: SampledRound | RankedRound, certain: bool = False) -> None:
        """Record rounds; those that could not be ranked, and what follows them, when the next one is ranked."""
        unranked = any(isinstance(one, RankedRound) and one.answer is None for one in found)
        if certain or not (unranked or self._uncertain):
            self.ledger.record(*self._uncertain, *found)
            self._uncertain.clear()
        else:
            self._uncertain.extend(found)

    def settle(self) -> None:
        """Record what is uncertain: a checkpoint follows."""
        self.record(certain=True)


@dataclass(frozen=True)
class Turn:
    """One round of a wave whose responses are sampled and whose rankings are asked for."""

    sampled: tuple[SampledRound, ...]
    shown: tuple[tuple[int, ...], ...]
    """Numbers of the demonstrations in each ranking prompt."""
    answers: "Future[list[Result[Answer]]] | None"
    recorded: tuple[RankedRound, ...] | None
    """What the ledger already had, when this turn is a replay."""

    @property
    def wave(self) -> int:
        """The wave's number in the run."""
        return self.sampled[0].wave


def _segment_name() -> str:
    segment: Segment = task_run.parameters["segment"]
    return segment.name


@task(name="segment", task_run_name=_segment_name, tags=["gpu"], cache_policy=NO_CACHE)
def run_segment(cycle: Cycle, segment: Segment) -> SegmentSummary:
    """Run the steps of one segment on its device: every prompt through its rounds (Paper: Figure 2)."""
    with device_slots(cycle.settings):
        return _run_segment(cycle, segment)


def _run_segment(cycle: Cycle, segment: Segment) -> SegmentSummary:
    started = time.monotonic()
    recorded = rounds.recorded(cycle.ledger, cycle.run_name, segment.first, segment.last)
    waves, turns, done = deque(segment.waves()), deque[Turn](), list[RankedRound]()
    while waves or turns:
        while waves and len(turns) <= cycle.settings.training.overlap:
            turns.append(begin(cycle, waves.popleft(), 1, recorded))
        turn = turns.popleft()
        ranked = conclude(cycle, turn)
        train(cycle, turn, ranked)
        done += ranked
        unfinished = [one.step for one in ranked if not one.stops_step]
        if unfinished:
            turns.append(begin(cycle, unfinished, ranked[0].round + 1, recorded, turn.wave))
    cycle.settle()
    candidates = cycle.settings.method.candidates
    return SegmentSummary.of(segment, done, candidates, len(recorded), time.monotonic() - started)


def begin(
    cycle: Cycle,
    steps: Sequence[int],
    round_: int,
    recorded: dict[tuple[int, int], RecordedRound],
    wave: int | None = None,
) -> Turn:
    """Sample the candidates, rank them by confidence, and ask the black box; what is recorded is read back."""
    known = [recorded.get((step, round_)) for step in steps]
    wave = steps[0] // cycle.settings.training.wave if wave is None else wave
    if all(known):
        sampled = tuple(one.sampled for one in known if one)
    else:
        sampled = sample(cycle, steps, round_, wave)
        cycle.record(*sampled)
    ranked = tuple(one.ranked for one in known if one and one.ranked)
    if len(ranked) == len(sampled):
        return Turn(sampled, tuple(one.demonstrations_shown for one in ranked), None, ranked)
    shown = [cycle.pool.shown(one.step) for one in sampled]
    questions = [question(cycle, one, [text for _, text in texts]) for one, texts in zip(sampled, shown, strict=True)]
    return Turn(sampled, tuple(tuple(number for number, _ in texts) for texts in shown), cycle.ask(questions), None)


def sample(cycle: Cycle, steps: Sequence[int], round_: int, wave: int) -> tuple[SampledRound, ...]:
    """Figure 2, 1): the white box samples l responses to each prompt and states its confidence in them."""
    method, seed = cycle.settings.method, cycle.settings.seed
    prompts = [cycle.prompt(step) for step in steps]
    seeds = [derive_seed(seed, "sample", step, round_) for step in steps]
    clock = time.monotonic()
    with fitting(f"Sampling {method.candidates} responses to each of {len(prompts)} prompts", SAMPLING):
        drawn = cycle.white_box.sample(prompts, seeds, method.candidates, cycle.settings.white_box.sampling)
    sampling_seconds = (time.monotonic() - clock) / len(steps)
    clock = time.monotonic()
    tokens = [[one.tokens for one in responses] for responses in drawn]
    with fitting("The log-probabilities of sampled responses", SCORING):
        scored = cycle.white_box.log_probabilities(list(zip(prompts, tokens, strict=True)))
    scoring_seconds = (time.monotonic() - clock) / len(steps)
    return tuple(
        SampledRound(
            run_name=cycle.run_name,
            step=step,
            round=round_,
            wave=wave,
            prompt_id=prompt.prompt_id,
            cut=prompt != cycle.prompts[step],
            responses=tuple(responses),
            log_probabilities=tuple(log_probabilities),
            white_box_ranking=confidence_ranking(
                [one.mean if method.confidence == "mean" else one.total for one in log_probabilities]
            ),
            sampling_seconds=sampling_seconds,
            scoring_seconds=scoring_seconds,
        )
        for step, prompt, responses, log_probabilities in zip(steps, prompts, drawn, scored, strict=True)
    )


def question(cycle: Cycle, sampled: SampledRound, shown: Sequence[Demonstration]) -> Question[Answer]:
    """Figure 2, 2): what the black box is asked to rank, with the demonstrations that the pool holds now."""
    return ranking_question(cycle.settings, sampled, cycle.prompt(sampled.step), shown)


def conclude(cycle: Cycle, turn: Turn) -> tuple[RankedRound, ...]:
    """Figure 2, 4): wait for the answers, extract the agreement rankings, admit them as demonstrations."""
    if turn.recorded is not None:
        for one in turn.recorded:
            if one.admitted:
                cycle.pool.admit(one.step, one.round, one.admitted.demonstration)
        return turn.recorded
    assert turn.answers is not None  # noqa: S101  a turn is either recorded or asked
    ranked = tuple(
        agree(cycle, sampled, result, shown)
        for sampled, result, shown in zip(turn.sampled, turn.answers.result(), turn.shown, strict=True)
    )
    cycle.record(*ranked, certain=any(one.answer for one in ranked))
    return ranked


def agree(cycle: Cycle, sampled: SampledRound, result: Result[Answer], shown: tuple[int, ...]) -> RankedRound:
    """The agreement of the two rankings of one round (Paper: Section 2.2); two or more agreed are a demonstration."""
    black_box = result.answer.ranking if result.answer else ()
    agreed = agreement(black_box, sampled.white_box_ranking) if black_box else ()
    return RankedRound(
        run_name=cycle.run_name,
        step=sampled.step,
        round=sampled.round,
        answer=result.answer,
        unranked=Unranked(result.reason, result.detail) if result.reason else None,
        call_key=result.call_key,
        asks=result.asks,
        permutation=shown_order(cycle.settings, sampled, result.asks - 1),
        demonstrations_shown=shown_of(shown, result.left_out),
        agreement=agreed,
        stops_step=in_one_order(sampled, black_box) or sampled.round == cycle.settings.method.rounds,
        admitted=admit(cycle, sampled, agreed),
        waiting_seconds=result.seconds,
    )


def in_one_order(sampled: SampledRound, black_box: tuple[int, ...]) -> bool:
    """Whether both rankings order the texts alike; equal texts have no order."""
    texts = [response.text for response in sampled.responses]
    return [texts[one] for one in black_box] == [texts[one] for one in sampled.white_box_ranking]


def shown_of(shown: tuple[int, ...], left_out: int) -> tuple[int, ...]:
    """The numbers of the demonstrations that a prompt showed in the end."""
    for _ in range(left_out):
        shown = tuple(without_oldest(shown))
    return shown


def admit(cycle: Cycle, sampled: SampledRound, agreed: tuple[int, ...]) -> AdmittedDemonstration | None:
    """Two or more agreed responses that differ, and are not too long to be shown with every later prompt, become a
    dynamic demonstration (Paper: Section 2.2)."""
    texts = [response.text for response in sampled.responses]
    instruction = cycle.prompt(sampled.step).instruction
    distinct = drop_repeated(agreed, texts)  # equal texts have no order to show
    shown = presentable(instruction, texts, distinct)
    if len(shown) < len(distinct):
        LOGGER.info("step %d round %d: texts imitate the ranking prompt, not shown", sampled.step, sampled.round)
    size = len(instruction) + sum(len(texts[candidate]) for candidate in shown)
    if len(shown) < 2 or size > MOST_CHARACTERS:
        return None
    seed = derive_seed(cycle.settings.seed, "demonstration", sampled.step, sampled.round)
    demonstration = dynamic_demonstration(instruction, texts, shown, seed)
    return cycle.pool.admit(sampled.step, sampled.round, demonstration)


def train(cycle: Cycle, turn: Turn, ranked: Sequence[RankedRound]) -> None:
    """Figure 2, 3): optimizer steps on L_rank + λ·L_sft in prompt order; an unranked round trains nothing."""
    pairs = [(s, r) for s, r in zip(turn.sampled, ranked, strict=True) if r.answer is not None]
    size = cycle.settings.training.examples
    trained: list[TrainedRound] = []
    for start in range(0, len(pairs), size):
        group = pairs[start : start + size]
        clock = time.monotonic()
        report = optimize(cycle, group)
        seconds = (time.monotonic() - clock) / len(group)
        trained += [_trained(cycle, one, report, index, seconds) for index, (_, one) in enumerate(group)]
    cycle.ledger.record(*trained)
    replayed = turn.recorded is not None
    cycle.progress.turn_done(turn.sampled, ranked, trained, replayed=replayed)
    if cycle.resumption is not None:
        cycle.resumption.turn_done(turn.sampled, trained, replayed=replayed)


def optimize(cycle: Cycle, group: Sequence[tuple[SampledRound, RankedRound]]) -> OptimizerReport:
    """One optimizer step on these rounds.

    Raises:
        TrainingDiverged: a loss or gradient is not finite or exploded; names the rounds, changes nothing.
        DeviceMemoryFull: a pass does not fit.
    """
    examples = [example(cycle, sampled, ranked) for sampled, ranked in group]
    try:
        with fitting(f"An optimizer step on {len(examples)} examples", TRAINING):
            return cycle.white_box.optimize(examples, progress=group[0][0].step / len(cycle.prompts))
    except TrainingDiverged as error:
        named = ", ".join(f"step {one.step} round {one.round}" for one, _ in group)
        raise TrainingDiverged(
            f"Run {cycle.run_name!r}, {named}: {error} The rounds are recorded: `cyclealign sql prompt_history` shows "
            "them."
        ) from error


def example(cycle: Cycle, sampled: SampledRound, ranked: RankedRound) -> TrainingExample:
    """What one ranked round teaches: the preference order of candidates and rewrite, and the SFT target."""
    assert ranked.answer is not None  # noqa: S101  unranked rounds train nothing
    method, limit = cycle.settings.method, cycle.settings.white_box.sampling.max_new_tokens
    rewrite = cycle.white_box.encode_reply(ranked.answer.rewrite, limit)
    order = preference_order(ranked.answer.ranking, method.rewrite, len(sampled.responses))
    responses = (*sampled.responses, rewrite)
    preference = order.preference
    if method.drop_repeated:
        preference = drop_repeated(preference, [response.text for response in responses])
    tokens = tuple(response.tokens for response in responses)
    return TrainingExample(cycle.prompt(sampled.step), tokens, preference, order.target)


def _trained(cycle: Cycle, ranked: RankedRound, report: OptimizerReport, index: int, seconds: float) -> TrainedRound:
    rank_loss, sft_loss = report.rank_losses[index], report.sft_losses[index]
    return TrainedRound(
        run_name=cycle.run_name,
        step=ranked.step,
        round=ranked.round,
        optimizer_step=cycle.white_box.optimizer_steps - 1,
        loss=rank_loss + cycle.settings.method.lambda_sft * sft_loss,
        rank_loss=rank_loss,
        sft_loss=sft_loss,
        gradient_norm=report.gradient_norm,
        learning_rate=report.learning_rate,
        seconds=seconds,
    )
