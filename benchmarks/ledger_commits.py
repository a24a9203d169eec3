"""What the protocol's promises cost: the time that one round spends in the ledger at W = 1.

Every answer is committed before anybody looks at it, so a round of one prompt takes six transactions and a look
whether its question was answered before. They go to a real ledger file through the functions that the cycle calls,
in the cycle's order, with rows of realistic size (`benchmarks.made_up_round`).

Two rows. The connection stays open from round to round, through pauses of some seconds. After longer ones, and where
another process wanted the file meanwhile, each of the three phases opens it again; the second bar is ours, for that
case.
"""

import tempfile
from decimal import Decimal
from pathlib import Path
from statistics import mean

from benchmarks.made_up_round import MadeUpRound
from benchmarks.measuring import seconds
from benchmarks.rows import Row, at_most
from storage import calls, rounds
from storage.ledger import Ledger

NAME = "committing the protocol's rows per round at W = 1"
REPEATS = 10
ROUNDS = 10
"""Rounds per repeat; their mean is one figure."""


class RoundInLedger:
    """The three times in which a round goes to the ledger."""

    def __init__(self, ledger: Ledger, values: MadeUpRound) -> None:
        self._ledger = ledger
        self._values = values
        self._attempt = 0

    def after_sampling(self) -> None:
        """The candidates; was the question answered before; the attempt with its worst case, under a cap."""
        rounds.record_sampled(self._ledger, self._values.run_name, [self._values.sampled()])
        calls.find(self._ledger, self._values.call.key)
        cap = Decimal(1000)
        self._attempt = calls.begin_attempt(self._ledger, self._values.call, Decimal("0.01"), cap)

    def after_answer(self) -> None:
        """The answer as it came, what reading it said, the rankings and their agreement."""
        calls.settle(self._ledger, self._attempt, self._values.reply(), Decimal("0.0015"))
        calls.record_verdict(self._ledger, self._values.call.key, "accepted")
        rounds.record_ranked(self._ledger, self._values.run_name, [self._values.ranked()])

    def after_training(self) -> None:
        """The losses."""
        rounds.record_trained(self._ledger, self._values.run_name, [self._values.trained()])


def rows(repeats: int = REPEATS) -> list[Row]:
    """Milliseconds per round: with the connection kept, and with the file opened again in each phase."""
    kept, opened = (milliseconds(repeats, reopen=reopen) for reopen in (False, True))
    note = f"means over {ROUNDS} rounds"
    return [
        Row(NAME, at_most(40.0), kept, "ms", f"{note}; the connection is kept between phases"),
        Row(f"{NAME}, file opened in each phase", at_most(150.0), opened, "ms", f"{note}; closed in between"),
    ]


def milliseconds(repeats: int, *, reopen: bool) -> tuple[float, ...]:
    """One figure per repeat, on one growing ledger; the first repeat is a warm-up and left out."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder))
        spent = [_round_seconds(ledger, step, reopen=reopen) for step in range((repeats + 1) * ROUNDS)]
        ledger.close()
    return tuple(1000 * mean(spent[start : start + ROUNDS]) for start in range(ROUNDS, len(spent), ROUNDS))


def _round_seconds(ledger: Ledger, step: int, *, reopen: bool) -> float:
    """Of the ledger alone; the closing that comes before each phase with `reopen` is not counted."""
    one, total = RoundInLedger(ledger, MadeUpRound("benchmark", step)), 0.0
    for phase in (one.after_sampling, one.after_answer, one.after_training):
        if reopen:
            ledger.close()
        total += seconds(phase)
    return total
