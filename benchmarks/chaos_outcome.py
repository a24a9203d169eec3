"""What came of a run that was killed: its end held against the uninterrupted run's, its ledger against the judge's log.

Leaves out: killing (`benchmarks.chaos_trainer`), showing and keeping (`benchmarks.chaos`).
"""

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from benchmarks.chaos_trainer import PRICE, Trainer
from storage import runs
from tests.flows.ended_runs import EndedRun, differing_rows
from tests.flows.lives import again_after, asked_again, bought_again, lost, without_cause


@dataclass(frozen=True)
class Outcome:
    """One run that was killed, beside the one that was not."""

    seed: int
    kills: list[dict[str, Any]]
    """Moment, seconds, phase, rounds recorded, calls in flight, how many requests repeated those."""
    resumes: int
    weights_sha256: str
    weights_sha256_of_the_whole: str
    differing_tables: list[str]
    requests: int
    """That reached the judge."""
    attempts: int
    """That the ledger knows of."""
    answered_calls_asked_again: int
    calls_asked_again: int
    in_flight_at_kills: int
    asked_again_without_being_in_flight: int
    longest_lost_answer_s: float
    """Of the answers that a kill lost: from the judge's answer to the kill."""
    spend_usd: Decimal
    """By the ledger."""
    billed_usd: Decimal
    """By the judge's log."""
    seconds: float

    @property
    def kills_that_cost_more(self) -> int:
        """After which more was asked again than was in flight."""
        return sum(kill["asked_again"] > kill["in_flight"] for kill in self.kills)

    @property
    def equal(self) -> bool:
        """Whether it ended as if nothing had happened."""
        return self.weights_sha256 == self.weights_sha256_of_the_whole and not self.differing_tables


def compare(killed: Trainer, whole: Trainer, seconds: float) -> Outcome:
    """Everything that the bars are about."""
    ended, lives = killed.lives[-1].left, killed.lives
    at_kills = [lost(lives, number).total() for number in range(len(killed.kills))]
    return Outcome(
        seed=killed.seed,
        kills=[
            {**asdict(kill), "in_flight": in_flight, "asked_again": again_after(lives, number)}
            for number, (kill, in_flight) in enumerate(zip(killed.kills, at_kills, strict=True))
        ],
        resumes=len(lives) - 1,
        weights_sha256=weights(killed),
        weights_sha256_of_the_whole=weights(whole),
        differing_tables=[*differing_rows(EndedRun(killed.home, killed.name), EndedRun(whole.home, whole.name))],
        requests=sum(life.asked.total() for life in lives),
        attempts=ended.attempts.total(),
        answered_calls_asked_again=bought_again(lives),
        calls_asked_again=asked_again(lives).total(),
        in_flight_at_kills=sum(at_kills),
        asked_again_without_being_in_flight=without_cause(lives),
        longest_lost_answer_s=longest_lost_answer(killed),
        spend_usd=ended.spend_usd,
        billed_usd=billed(killed),
        seconds=round(seconds),
    )


def weights(trainer: Trainer) -> str:
    """The digest that `cyclealign status --json` shows."""
    return str(runs.status_anywhere(trainer.home, trainer.name)[0].weights_sha256)


def billed(trainer: Trainer) -> Decimal:
    """What the judge would have billed for every answer, those that nobody received included; US dollars."""
    answers = [one for one in trainer.judge.log(trainer.name) if one.answered]
    return sum(
        (
            Decimal(one.prompt_tokens) * Decimal(PRICE["input"])
            + Decimal(one.completion_tokens) * Decimal(PRICE["output"])
            for one in answers
        ),
        Decimal(0),
    ) / Decimal(1_000_000)


def longest_lost_answer(trainer: Trainer) -> float:
    """Seconds from the judge's answer to the kill that came before its commit; the longest of all."""
    ages = [age for number in range(len(trainer.kills)) for age in _lost_answers(trainer, number)]
    return round(max(ages, default=0.0), 3)


def _lost_answers(trainer: Trainer, number: int) -> list[float]:
    kill, calls = trainer.kills[number], lost(trainer.lives, number)
    answers = [one for one in trainer.judge.log(trainer.name) if one.answered and one.call in calls]
    return [kill.at - one.at for one in answers if 0 < kill.at - one.at < kill.seconds]
