"""One run of the laptop profile in this process, with Prefect or without: `python -m benchmarks.laptop_run SIDE`.

Does what `cyclealign train` does, the printing at the end included, in the home that `CYCLEALIGN_HOME` names. The last
line of its output is the digest of the trained weights, so that the two sides can be held against each other. Started
by `benchmarks.prefect_share`, which takes the time from outside: starting and ending the process belong to the run.
"""

import json
import sys
from typing import Any

from benchmarks import no_prefect

PROFILE = "laptop"
RUN = "benchmark"


def run(side: str, overrides: dict[str, Any]) -> str:
    """The digest of the weights that the run ends with."""
    status = _with_prefect(overrides) if side == "with" else _without_prefect(overrides)
    from tasks.evaluation.publication import print_end  # noqa: PLC0415  it imports Prefect, or the stand-in

    print_end(RUN)
    return str(status["weights_sha256"])


def _with_prefect(overrides: dict[str, Any]) -> Any:
    """As the command line does it."""
    from cli.local import in_process  # noqa: PLC0415  the other side must not import it

    return in_process("flows.train:train", profile=PROFILE, overrides=overrides, run=RUN)


def _without_prefect(overrides: dict[str, Any]) -> Any:
    """The same flow as a plain function."""
    no_prefect.take_away()
    from flows.train import train  # noqa: PLC0415  after Prefect was taken away

    return train(profile=PROFILE, overrides=overrides, run=RUN)


if __name__ == "__main__":
    print(run(sys.argv[1], json.loads(sys.argv[2])))
