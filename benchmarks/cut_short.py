"""The command line, killed on the way: `python -m benchmarks.cut_short TURNS train …`.

The application has no hook for this: the process wraps the function that records what a turn of a wave has trained, and
ends by SIGKILL when it has returned so many times. Nothing can be cleaned up then, as with a power cut.
"""

import os
import signal
import sys
from collections.abc import Sequence
from itertools import count

import storage.rounds
from storage.ledger import Ledger
from storage.round_values import TrainedRound


def set_trap(turns: int) -> None:
    """Die behind that many recorded turns."""
    record, numbers = storage.rounds.record_trained, count(1)

    def fatal(ledger: Ledger, run_name: str, rounds: Sequence[TrainedRound]) -> None:
        record(ledger, run_name, rounds)
        if next(numbers) == turns:
            os.kill(os.getpid(), signal.SIGKILL)

    storage.rounds.record_trained = fatal


if __name__ == "__main__":
    from cli.main import main

    set_trap(int(sys.argv.pop(1)))
    main()
