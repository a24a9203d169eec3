"""Flows and readers in processes of their own (`tests.forks`).

A child works in the home and on the Prefect server that it is given, and lives as long as its work: nothing that it
prints or raises reaches the tests but through its exit code and the files it leaves.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import duckdb
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOCAL_STORAGE_PATH,
    PREFECT_RESULTS_PERSIST_BY_DEFAULT,
    temporary_settings,
)

from cyclealign.profiles import merge
from tests.flows.conftest import SMALL

TINY: dict[str, Any] = merge(SMALL, {"data": {"prompts": 4}, "evaluation": {"prompts_per_subset": 1}})
"""The small world with four steps, two segments of two."""
TINY["training"] = {"wave": 2, "prompts_per_optimizer_step": 2, "checkpoint_every": 2}


@dataclass(frozen=True)
class Place:
    """Where a child works."""

    home: Path
    prefect_url: str
    key: str = ""
    output: Path = Path(os.devnull)
    results: Path | None = None
    """Where Prefect keeps every result; None: it keeps none."""

    @classmethod
    def here(cls, home: Path, **rest: Any) -> "Place":
        """In this home, on the Prefect server of the tests."""
        return cls(home, PREFECT_API_URL.value(), **rest)


def train_there(place: Place, run: str, overrides: Mapping[str, Any]) -> None:
    """A training, as the flow does it."""
    from flows.train import train

    _flow(place, lambda: train(profile="laptop", overrides=dict(overrides), run=run))


def evaluate_there(place: Place, run: str) -> None:
    """The evaluation of a finished run alone."""
    from flows.evaluation import evaluate

    _flow(place, lambda: evaluate(run=run))


def _flow(place: Place, flow: Callable[[], object]) -> None:
    with place.output.open("a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ |= {"CYCLEALIGN_HOME": str(place.home), "OPENAI_API_KEY": place.key}
    settings: dict[Any, Any] = {PREFECT_API_URL: place.prefect_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(settings | (kept_results(place.results) if place.results else {})):
        flow()


def kept_results(folder: Path) -> dict[Any, Any]:
    """Settings with which Prefect keeps the result of every task and flow."""
    return {PREFECT_RESULTS_PERSIST_BY_DEFAULT: True, PREFECT_LOCAL_STORAGE_PATH: folder}


def level_of_progress() -> int:
    """The least level of lines that the progress of a run logs."""
    from tasks.cycle.progress import LOGGER

    return LOGGER.level


def read_until(path: Path, reading: Event, enough: Event) -> None:
    """A client of somebody else's: opens the ledger's file for reading, and asks it again and again.

    Ends well when the file answered the same all the time.
    """
    connection = duckdb.connect(str(path), read_only=True)
    question = "select count(*), max(updated_at) from runs"
    first = connection.execute(question).fetchall()
    reading.set()
    while not enough.wait(0.2):
        if connection.execute(question).fetchall() != first:
            sys.exit("the file changed under its reader")


def ask_until(home: Path, enough: Event) -> None:
    """Asks the ledger again and again; ends well when no count ever falls."""
    from storage.ledger import Ledger

    ledger, before = Ledger(home), [0, 0, 0]
    while not enough.wait(1.5):  # ten that ask all the time leave two cores to no one else
        counts = "select (select count(*) from rounds), (select count(*) from attempts), (select count(*) from runs)"
        now = [int(one) for one in ledger.query(counts).iloc[0]]
        if any(one < other for one, other in zip(now, before, strict=True)):
            sys.exit(f"{before} became {now}")
        before = now
