"""Resumptions: what a process that continues a run does again from the ledger, without sampling and without asking.

The loop tells each turn of a wave to the resumption that the process began; runs that were never interrupted have
none. The account is for people: nothing reads it to decide what to replay (`storage.rounds.recorded` does that).
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from storage.facts import fact
from storage.ledger import Ledger
from storage.rounds import SampledRound, TrainedRound


@fact("continuations")
@dataclass(frozen=True, slots=True)
class Continuation:
    """A process continues a run."""

    run_name: str
    resumption: int
    """1, 2, … in the order of the run."""
    process_host: str
    process_id: int
    checkpoint_step: int
    """The first step that its checkpoint leaves to do; 0: it had none."""


@fact("continued_turns")
@dataclass(frozen=True, slots=True)
class ContinuedTurn:
    """A turn of a wave that was replayed, or the first one that was not."""

    run_name: str
    resumption: int
    rounds: int = 0
    optimizer_steps: int = 0
    seconds: float = 0.0
    """Of those optimizer steps."""
    first_new_step: int | None = None


class Resumption:
    """The account of one continuation, kept as it goes on.

    Args:
        ledger: Where it is kept.
        run_name: The run that is continued.
        number: Which of the run's resumptions this is, counted from 1.
    """

    def __init__(self, ledger: Ledger, run_name: str, number: int) -> None:
        self._ledger, self._run_name, self._number = ledger, run_name, number
        self._went_on = False

    def turn_done(self, sampled: Sequence[SampledRound], trained: Sequence[TrainedRound], *, replayed: bool) -> None:
        """Take in one turn of a wave; of those that are not replayed, only the first is noted."""
        key = (self._run_name, self._number)
        if replayed:
            optimizer_steps = len({one.optimizer_step for one in trained})
            seconds = sum(one.seconds for one in trained)
            self._ledger.record(ContinuedTurn(*key, len(sampled), optimizer_steps, seconds))
        elif not self._went_on:
            self._went_on = True
            self._ledger.record(ContinuedTurn(*key, first_new_step=sampled[0].step))


def begin(ledger: Ledger, run_name: str, checkpoint_step: int) -> Resumption | None:
    """Note that this process continues a run from a checkpoint; None for a run without recorded rounds.

    Args:
        ledger: The ledger.
        run_name: The run.
        checkpoint_step: The first step that the loaded checkpoint leaves to do; 0 without a checkpoint.
    """
    with ledger.session() as session:
        if not session.rows("of_steps", this_table="sampled_rounds", run_name=run_name, first_step=0, last_step=1):
            return None
        number = len(session.rows("of_run", this_table="continuations", run_name=run_name)) + 1
    ledger.record(Continuation(run_name, number, socket.gethostname(), os.getpid(), checkpoint_step))
    return Resumption(ledger, run_name, number)
