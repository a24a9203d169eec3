"""A ledger in a temporary home, and processes beside this one."""

import contextlib
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyclealign.errors import LedgerError
from storage.ledger import Ledger

RunScript = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "home")
    yield opened
    with contextlib.suppress(LedgerError):  # of files that a test has spoilt
        opened.close()


@pytest.fixture
def script() -> Iterator[RunScript]:
    """Starts Python code in a process of its own, with what it prints as a pipe."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
