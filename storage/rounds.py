"""Rounds: recording what one interaction sampled, ranked and trained, and reading it back for replay.

Each `record_…` is one transaction for a whole wave: a run that is killed finds all of it or nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict

from cyclealign.method.demonstrations import STATIC_NUMBER, AdmittedDemonstration, Demonstration
from storage.ledger import Ledger, Session
from storage.round_rows import (
    admitted_demonstration,
    demonstration_row,
    ranked_row,
    ranking_row,
    recorded_round,
    response_rows,
    sampled_row,
)
from storage.round_values import RankedRound, RecordedRound, SampledRound, TrainedRound

__all__ = [
    "RankedRound",
    "RecordedRound",
    "SampledRound",
    "TrainedRound",
    "demonstrations",
    "record_ranked",
    "record_sampled",
    "record_static",
    "record_trained",
    "recorded",
]


def record_sampled(ledger: Ledger, run_name: str, rounds: Sequence[SampledRound]) -> None:
    """Record the candidates of a wave, their log-probabilities and the white-box rankings."""
    rankings = [ranking_row(one, one.white_box_ranking) for one in rounds]
    with ledger.session() as session, session.transaction():
        session.run("rounds/put_sampled", run_name=run_name, rows=[sampled_row(one) for one in rounds])
        responses = [row for one in rounds for row in response_rows(one)]
        session.run("rounds/put_responses", run_name=run_name, rows=responses)
        session.run("rounds/put_rankings", run_name=run_name, ranker="white_box", rows=rankings)


def record_ranked(ledger: Ledger, run_name: str, rounds: Sequence[RankedRound]) -> None:
    """Record the black-box rankings and rewrites of a wave, the agreements, and what could not be ranked."""
    with ledger.session() as session, session.transaction():
        session.run("rounds/set_ranked", run_name=run_name, rows=[ranked_row(one) for one in rounds])
        _record_answers(session, run_name, rounds)
        _record_agreements(session, run_name, rounds)


def record_trained(ledger: Ledger, run_name: str, rounds: Sequence[TrainedRound]) -> None:
    """Record the losses of ranked rounds; rounds that are replayed keep the record of their first time."""
    rows = [asdict(one) for one in rounds]
    if rows:
        with ledger.session() as session, session.transaction():
            session.run("rounds/set_trained", run_name=run_name, rows=rows)


def record_static(ledger: Ledger, run_name: str, demonstration: Demonstration) -> None:
    """Record the demonstration that every ranking prompt of the run shows, under number 0."""
    row = demonstration_row(STATIC_NUMBER, None, None, demonstration)
    with ledger.session() as session:
        if session.value("rounds/has_static", run_name=run_name) is None:
            session.run("rounds/put_demonstrations", run_name=run_name, kind="static", rows=[row])


def recorded(ledger: Ledger, run_name: str, first_step: int, last_step: int) -> dict[tuple[int, int], RecordedRound]:
    """The recorded rounds of the steps `first_step … last_step - 1`, by step and round, in order."""
    with ledger.session() as session:
        rows = session.rows("rounds/recorded", run_name=run_name, first_step=first_step, last_step=last_step)
    return {(row["step"], row["round"]): recorded_round(row) for row in rows}


def demonstrations(ledger: Ledger, run_name: str, before_step: int | None = None) -> list[AdmittedDemonstration]:
    """The dynamic demonstrations admitted so far, oldest first; of steps before `before_step` if given."""
    with ledger.session() as session:
        rows = session.rows("rounds/demonstrations", run_name=run_name, before_step=before_step)
    return [admitted_demonstration(row) for row in rows]


def _record_answers(session: Session, run_name: str, rounds: Sequence[RankedRound]) -> None:
    answered = [(one, one.answer) for one in rounds if one.answer is not None]
    if not answered:
        return
    rankings = [ranking_row(one, answer.ranking) for one, answer in answered]
    rewrites = [{"step": one.step, "round": one.round, "text": answer.rewrite} for one, answer in answered]
    session.run("rounds/put_rankings", run_name=run_name, ranker="black_box", rows=rankings)
    session.run("rounds/set_black_box_ranks", run_name=run_name, rows=rankings)
    session.run("rounds/put_rewrites", run_name=run_name, rows=rewrites)


def _record_agreements(session: Session, run_name: str, rounds: Sequence[RankedRound]) -> None:
    agreements = [ranking_row(one, one.agreement) for one in rounds if one.agreement]
    shown = [
        {"step": one.step, "round": one.round, "shown": list(one.demonstrations_shown)}
        for one in rounds
        if one.demonstrations_shown
    ]
    admitted = [
        demonstration_row(one.number, one.step, one.round, one.demonstration)
        for one in (ranked.admitted for ranked in rounds)
        if one is not None
    ]
    if agreements:
        session.run("rounds/put_pseudo_labels", run_name=run_name, rows=agreements)
    if shown:
        session.run("rounds/put_shown", run_name=run_name, rows=shown)
    if admitted:
        session.run("rounds/put_demonstrations", run_name=run_name, kind="dynamic", rows=admitted)
