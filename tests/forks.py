"""Processes beside the tests, forked from one server that has the imports behind it: none starts Python anew."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
PRELOADED = "tests.flows.crash_program"
"""Imports the flows; a session of tests has one fork server, so all name the same module."""
FORKS.set_forkserver_preload([PRELOADED])


def fork(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that will do the work, not started."""
    return FORKS.Process(target=work, args=arguments)


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Have the work done."""
    process = fork(work, *arguments)
    process.start()
    return process
