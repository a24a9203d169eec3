"""Resumptions: what a process that continues a run does again from the ledger, without sampling and without asking.

The training loop tells each turn to the resumption that the process began; runs that were never interrupted have
none. The account is for people: nothing reads it to decide what to replay (`storage.rounds.recorded` does that).
"""

from collections.abc import Sequence

from storage import processes
from storage.ledger import Ledger
from storage.round_values import SampledRound, TrainedRound


class Resumption:
    """The account of one continuation, kept in the ledger as it goes on.

    Args:
        ledger: Where it is kept.
        run_name: The run that is continued.
        number: Which of the run's resumptions this is, counted from 1.
    """

    def __init__(self, ledger: Ledger, run_name: str, number: int) -> None:
        self._ledger = ledger
        self._key = {"run_name": run_name, "resumption": number}
        self._went_on = False

    def turn_done(self, sampled: Sequence[SampledRound], trained: Sequence[TrainedRound], *, replayed: bool) -> None:
        """Take in one turn of a wave; of those that are not replayed, only the first is noted."""
        if replayed:
            self._add(len(sampled), trained)
        elif not self._went_on:
            self._went_on = True
            with self._ledger.session() as session:
                session.run("resumptions/set_first_new_step", step=sampled[0].step, **self._key)

    def _add(self, rounds: int, trained: Sequence[TrainedRound]) -> None:
        with self._ledger.session() as session:
            session.run(
                "resumptions/add_replayed",
                rounds=rounds,
                optimizer_steps=len({one.optimizer_step for one in trained}),
                seconds=sum(one.seconds for one in trained),
                **self._key,
            )


def begin(ledger: Ledger, run_name: str, checkpoint_step: int) -> Resumption | None:
    """Note that this process continues a run from a checkpoint; None for a run without recorded rounds.

    Args:
        ledger: The ledger.
        run_name: The run.
        checkpoint_step: The first step that the loaded checkpoint leaves to do; 0 without a checkpoint.
    """
    me = processes.current()
    with ledger.session() as session, session.transaction():
        number = session.value(
            "resumptions/begin",
            run_name=run_name,
            process_host=me.host,
            process_id=me.pid,
            process_started_at=me.started_at,
            checkpoint_step=checkpoint_step,
        )
    return None if number is None else Resumption(ledger, run_name, number)
