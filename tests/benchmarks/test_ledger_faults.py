"""Handing a ledger over and killing its processes, a moment of each; a process of its own, since it forks."""

import re
import subprocess
import sys

import pytest


@pytest.mark.parametrize("bare", [[], ["--bare"]], ids=["ledger", "duckdb"])
def test_rows_are_committed_and_processes_are_killed(bare: list[str]) -> None:
    command = [sys.executable, "-m", "benchmarks.ledger_faults", "--seconds", "1", "--kills", "3", *bare]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    committed = re.search(r"handed over: (\d+) rows committed, (\d+) gone", done.stdout)
    killed = re.search(r"killed within checkpoints: (\d+) processes, rows or the file gone after (\d+)", done.stdout)
    assert committed is not None, done.stderr
    assert killed is not None, done.stderr
    assert int(committed[1]) > 0
    assert int(killed[1]) == 3
    lost = int(committed[2]) + int(killed[2])
    assert done.returncode == (1 if lost else 0)
    assert bare or not lost
