"""Runs the flow in a process of its own, in which a trap kills it at a named moment; used by `chain`, `test_ranks`.

The application has no hooks for this: the process wraps a public function before it runs the flow, and dies by
SIGKILL before or after a certain call of it. Nothing can be cleaned up then, as with a power cut.
"""

import functools
import gc
import importlib
import itertools
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from cyclealign.records import Prompt, Response
from cyclealign.white_box.white_box import WhiteBox
from flows.train import train
from storage import ledger

gc.freeze()  # the fork server has imported all of this: no life looks at it again, or copies its pages


@dataclass(frozen=True)
class Trap:
    """Before or after which call the process, or another rank of its run, dies.

    `place` is `module:name` or `module:Class.name`; `number` counts the calls (from 1) that have `about` among their
    arguments.
    """

    place: str
    when: Literal["before", "after"] = "before"
    number: int = 1
    about: str = ""
    victim: Literal["this process", "a rank"] = "this process"

    def set(self) -> None:
        """Wrap the function."""
        module, _, path = self.place.partition(":")
        *outer, name = path.split(".")
        owner = functools.reduce(getattr, outer, importlib.import_module(module))
        original, calls = getattr(owner, name), itertools.count(1)

        @functools.wraps(original)
        def fatal(*args: Any, **kwargs: Any) -> Any:
            due = (not self.about or self.about in str(args)) and next(calls) == self.number
            if due and self.when == "before":
                self._close()
            result = original(*args, **kwargs)
            if due and self.when == "after":
                self._close()
            return result

        setattr(owner, name, fatal)

    def _close(self) -> None:
        if self.victim == "this process":
            die()
        for rank in other_ranks(os.getpid()):
            rank.kill()


@dataclass(frozen=True)
class Start:
    """One start of the command; the same again each time, but for the trap."""

    home: Path
    run: str
    overrides: Mapping[str, Any]
    prefect_url: str
    draws: Path
    """Where a line is added for every seed that the white box samples with."""
    said: Path
    """What it prints."""
    trap: Trap | None = None


def die() -> None:
    """The end, without any last words."""
    os.kill(os.getpid(), signal.SIGKILL)


def other_ranks(process_id: int) -> list[psutil.Process]:
    """The ranks that a process has started."""
    children = psutil.Process(process_id).children()
    return [child for child in children if "cyclealign.white_box.rank_worker" in child.cmdline()]


def live(start: Start) -> None:
    """Run or continue the run until its end, or until the trap closes."""
    with start.said.open("w") as output:
        os.dup2(output.fileno(), 2)
    os.environ["CYCLEALIGN_HOME"] = str(start.home)
    os.environ["OPENAI_API_KEY"] = start.run  # tells the judge who asks
    note_draws(start.draws)
    ledger.JOURNAL_BYTES, ledger.JOURNAL_SHARE = 1, 2**40  # so that a small run posts at every checkpoint
    if start.trap is not None:
        start.trap.set()
    settings = {PREFECT_API_URL: start.prefect_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(settings):
        train(profile="laptop", overrides=dict(start.overrides), run=start.run)


def note_draws(path: Path) -> None:
    """Write down the seeds of everything that is sampled, before it is."""
    original = WhiteBox.sample

    def noted(self: WhiteBox, prompts: Sequence[Prompt], seeds: Sequence[int], *rest: Any) -> list[list[Response]]:
        with path.open("a") as lines:
            lines.writelines(f"{seed}\n" for seed in seeds)
        return original(self, prompts, seeds, *rest)

    WhiteBox.sample = noted  # type: ignore[method-assign, assignment]
