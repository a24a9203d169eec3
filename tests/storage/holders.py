"""Processes beside this one that use a ledger or keep it, and the runs that a ledger holds."""

import subprocess

from storage.ledger import Ledger
from tests.storage.conftest import RunScript

HOLD = """
    import sys
    from pathlib import Path
    from storage.ledger import Ledger
    with Ledger(Path(sys.argv[1])).session():
        print("held", flush=True)
        sys.stdin.readline()
    """

KEEP = """
    import sys
    from pathlib import Path
    from storage.ledger import Ledger
    ledger = Ledger(Path(sys.argv[1]))
    with ledger.session():
        pass
    print("kept", flush=True)
    sys.stdin.readline()
    with ledger.session() as session:
        print([row["run_name"] for row in session.rows("runs/names")])
    """


def hold(script: RunScript, ledger: Ledger) -> "subprocess.Popen[str]":
    process = script(HOLD, ledger.home)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def names(ledger: Ledger) -> list[str]:
    with ledger.session() as session:
        return [row["run_name"] for row in session.rows("runs/names")]
