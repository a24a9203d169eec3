"""Rounds: what one interaction sampled, ranked and trained, recorded as facts and read back for replay.

A wave's facts of one kind are recorded together: a run that is killed finds all of them or none.
"""

from dataclasses import dataclass

from cyclealign.method.answers import Answer
from cyclealign.method.demonstrations import AdmittedDemonstration, Demonstration
from cyclealign.records import LogProbability, Response, Unranked
from storage.facts import fact, value, values
from storage.ledger import Ledger


@fact("sampled_rounds")
@dataclass(frozen=True, slots=True)
class SampledRound:
    """The candidates of one round and the white-box model's opinion of them."""

    run_name: str
    step: int
    round: int
    wave: int
    prompt_id: str
    responses: tuple[Response, ...]
    log_probabilities: tuple[LogProbability, ...]
    white_box_ranking: tuple[int, ...]
    """Candidate ids, best first."""
    sampling_seconds: float
    """Of the wave, shared equally among its rounds; so are the other seconds."""
    scoring_seconds: float
    cut: bool = False
    """Whether the prompt was too long for the white box, so that a part of it is missing."""


@fact("ranked_rounds")
@dataclass(frozen=True, slots=True)
class RankedRound:
    """What asking the black-box model about one round came to."""

    run_name: str
    step: int
    round: int
    answer: Answer | None
    """None when the round could not be ranked; then `unranked` says why."""
    unranked: Unranked | None
    call_key: str | None
    """The call whose answer was accepted."""
    asks: int
    permutation: tuple[int, ...]
    """`permutation[i]` is the candidate id shown at position i."""
    demonstrations_shown: tuple[int, ...]
    """Numbers of the demonstrations in the ranking prompt, in order."""
    agreement: tuple[int, ...]
    """Candidate ids, best first; empty without a ranking."""
    stops_step: bool
    admitted: AdmittedDemonstration | None
    waiting_seconds: float


@fact("trained_rounds")
@dataclass(frozen=True, slots=True)
class TrainedRound:
    """The optimizer step that one round took part in."""

    run_name: str
    step: int
    round: int
    optimizer_step: int
    loss: float
    """rank_loss + λ · sft_loss of this prompt."""
    rank_loss: float
    sft_loss: float
    gradient_norm: float
    """Before clipping, of the whole optimizer step."""
    learning_rate: float
    seconds: float


@fact("static_demonstrations")
@dataclass(frozen=True, slots=True)
class StaticDemonstration:
    """The demonstration that every ranking prompt of a run shows, under number 0."""

    run_name: str
    demonstration: Demonstration


@dataclass(frozen=True, slots=True)
class RecordedRound:
    """What is recorded of one round; None for what had not happened yet."""

    sampled: SampledRound
    ranked: RankedRound | None
    trained: TrainedRound | None


def recorded(ledger: Ledger, run_name: str, first_step: int, last_step: int) -> dict[tuple[int, int], RecordedRound]:
    """The recorded rounds of the steps `first_step … last_step - 1`, by step and round, in order."""
    steps = {"run_name": run_name, "first_step": first_step, "last_step": last_step}
    with ledger.session() as session:
        sampled = values(SampledRound, session.rows("of_steps", this_table="sampled_rounds", **steps))
        ranked = values(RankedRound, session.rows("of_steps", this_table="ranked_rounds", **steps))
        trained = values(TrainedRound, session.rows("of_steps", this_table="trained_rounds", **steps))
    ranks = {(one.step, one.round): one for one in ranked}
    steps_of = {(one.step, one.round): one for one in trained}
    places = [(one, (one.step, one.round)) for one in sampled]
    return {place: RecordedRound(one, ranks.get(place), steps_of.get(place)) for one, place in places}


def demonstrations(ledger: Ledger, run_name: str, before_step: int) -> list[AdmittedDemonstration]:
    """The dynamic demonstrations admitted in steps before `before_step`, oldest first."""
    with ledger.session() as session:
        rows = session.rows("rounds/admitted", run_name=run_name, before_step=before_step)
    return [value(AdmittedDemonstration, row) for row in rows]


@fact("optimizer_steps")
@dataclass(frozen=True, slots=True)
class OptimizerStep:
    """One optimizer step of a run without rounds, a baseline; None for what its method does not have."""

    run_name: str
    optimizer_step: int
    """0-based."""
    examples: int
    """Prompts that took part in it."""
    loss: float
    gradient_norm: float | None
    """Before clipping."""
    learning_rate: float
    seconds: float
    rank_loss: float | None = None
    sft_loss: float | None = None
    reward: float | None = None
    """Mean reward of the responses that it sampled."""


def optimizer_steps(ledger: Ledger, run_name: str) -> int:
    """How many optimizer steps the rounds of a run took: the budget of a baseline beside it."""
    with ledger.session() as session:
        return int(session.value("rounds/optimizer_steps", run_name=run_name))
