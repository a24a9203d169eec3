"""Refolds: the recorded rounds of one run, given to another that trains on them anew.

The copy is one transaction: a refold that is killed finds all rounds of its source or none. Leaves out: training
(`tasks.cycle`) and what another tokenizer makes of the texts (`tasks.studies.refolding`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from storage import rounds
from storage.facts import values
from storage.ledger import Ledger
from storage.response_rewards import CandidateRewards
from storage.rounds import RankedRound, SampledRound, StaticDemonstration

Encode = Callable[[str, bool], Sequence[int]]
"""Tokens of a candidate from its text and whether it ended by itself."""
ALL_STEPS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Refolding:
    """Which rounds go where."""

    source_run: str
    run_name: str
    steps: tuple[int, ...]
    """Element i is the step at which the source's step i is trained on."""
    wave: int
    """Prompts that go through their rounds together in the new run."""


def copy_once(ledger: Ledger, refolding: Refolding, encode: Encode | None = None) -> bool:
    """Give the new run the source's rounds; False when it has them already.

    Args:
        ledger: Where both runs are.
        refolding: Which rounds go where.
        encode: Makes tokens of the candidates' texts; None keeps the recorded tokens.
    """
    source, copy = refolding.source_run, refolding.run_name
    if rounds.recorded(ledger, copy, 0, ALL_STEPS):
        return False
    found = rounds.recorded(ledger, source, 0, ALL_STEPS).values()
    with ledger.session() as session:
        static = session.rows("of_run", this_table="static_demonstrations", run_name=source)
        rewards = session.rows("of_run", this_table="candidate_rewards", run_name=source)
    ledger.record(
        *(replace(one, run_name=copy) for one in values(StaticDemonstration, static)),
        *(_sampled(one.sampled, refolding, encode) for one in found),
        *(_ranked(one.ranked, refolding) for one in found if one.ranked),
        *(
            replace(one, run_name=copy, step=refolding.steps[one.step])
            for one in values(CandidateRewards, rewards)  # a text that was scored is not scored again
        ),
    )
    return True


def _sampled(one: SampledRound, refolding: Refolding, encode: Encode | None) -> SampledRound:
    """As it was sampled, confidences included; the new run spent no time on it."""
    step = refolding.steps[one.step]
    responses = one.responses
    if encode is not None:
        responses = tuple(replace(each, tokens=tuple(encode(each.text, each.ended))) for each in responses)
    return replace(
        one,
        run_name=refolding.run_name,
        step=step,
        wave=step // refolding.wave,
        responses=responses,
        sampling_seconds=0.0,
        scoring_seconds=0.0,
    )


def _ranked(one: RankedRound, refolding: Refolding) -> RankedRound:
    """As it was ranked, and not trained on yet."""
    step = refolding.steps[one.step]
    admitted = one.admitted and replace(one.admitted, step=step)
    return replace(one, run_name=refolding.run_name, step=step, admitted=admitted, waiting_seconds=0.0)
