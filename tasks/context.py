"""The run that a flow works on: its name, settings, home folder and ledger, and the states it passes through."""

import importlib.resources
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclealign.errors import CycleAlignError, ProfileInvalid, RunPaused, StorageFull, UsageError
from cyclealign.profiles import merge, read_profile, resolve
from cyclealign.settings import Settings
from storage import runs
from storage.ledger import Ledger
from tasks.machine import computing_as_before, git_commit, machine, package_versions

LOGGER = logging.getLogger("cyclealign")
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
KEPT_BESIDE_RUNS = frozenset({"cells", "data", "journal", "models", "preference", "prefect", "world"})
"""Folders of the home that hold no run."""


@dataclass(frozen=True)
class RunContext:
    """A registered run and where its things are."""

    home: Path
    name: str
    settings: Settings
    ledger: Ledger
    source: "RunContext | None" = None
    """The run on whose prompts this one trains and is evaluated; None when it draws its own."""

    @property
    def folder(self) -> Path:
        """The run's folder: checkpoints, adapter, report."""
        return self.home / self.name


def home_folder() -> Path:
    """`CYCLEALIGN_HOME`, by default `./runs`.

    Raises:
        UsageError: DuckDB cannot keep a ledger under such a path.
    """
    home = Path(os.environ.get("CYCLEALIGN_HOME") or "runs").absolute()
    if "?" in str(home):
        raise UsageError(
            f"Found a question mark in the path of the home, {home}: DuckDB would look for its files elsewhere. "
            "Expected another path. Set CYCLEALIGN_HOME."
        )
    return home


def refuse_launcher() -> None:
    """Refuse to be one of several processes of a launcher; the ranks that a run starts itself come later.

    Raises:
        UsageError: a launcher has started several, each of which would open the run and its ledger.
    """
    found = os.environ.get("WORLD_SIZE", "1")
    if found != "1":
        raise UsageError(
            f"Found WORLD_SIZE={found[:20]} in the environment, as torchrun, `accelerate launch` and `deepspeed` set "
            "it for each process that they start. Expected a single process, which starts its other ranks itself: each "
            "of several would open the run and the ledger. Start it without a launcher, with "
            f"training.ranks={found[:20]} for as many ranks; where there was no launcher, unset WORLD_SIZE."
        )


def load_settings(profile: str, overrides: Mapping[str, Any]) -> Settings:
    """The settings of a shipped profile, or of a YAML file when `profile` is a path.

    Raises:
        ProfileInvalid: there is no such profile, or it does not validate.
    """
    if profile.endswith((".yaml", ".yml")):
        path = Path(profile)
        return resolve(path.stem, read_profile(path), overrides)
    with importlib.resources.as_file(importlib.resources.files("profiles")) as folder:
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        if profile not in known:
            raise ProfileInvalid(
                f"No profile {profile[:100]!r}. Expected one of {', '.join(known)}, or a path that ends in .yaml."
            )
        return resolve(profile, read_profile(folder / f"{profile}.yaml"), overrides)


def open_run(profile: str, overrides: Mapping[str, Any], name: str | None) -> tuple[RunContext, bool]:
    """The run of these settings, registered in the ledger; the second value tells whether it is new.

    Raises:
        ProfileInvalid: the settings do not validate.
        UsageError: the name cannot be a run's, or a launcher started several processes.
        SettingsChanged: a run of this name exists with other settings.
    """
    refuse_launcher()
    settings = load_settings(profile, overrides)
    context = RunContext(home_folder(), run_name(settings, name), settings, Ledger(home_folder()))
    return context, runs.register(context.ledger, new_run(context))


def new_run(context: RunContext) -> runs.NewRun:
    """A row for a run of these settings, with its code, packages and machine."""
    settings = context.settings
    return runs.NewRun(
        run_name=context.name,
        profile=settings.profile,
        seed=settings.seed,
        settings=settings.influential(),
        settings_digest=settings.digest(),
        operational_settings=settings.operational(),
        steps=settings.data.prompts,
        git_commit=git_commit(),
        package_versions=package_versions(),
        machine={**machine(), "ranks": settings.training.ranks},
    )


def existing_run(name: str) -> RunContext:
    """A run that the ledger knows, with the settings it was last started with.

    Raises:
        RunUnknown: there is no run of this name.
        UsageError: a launcher started several processes.
    """
    refuse_launcher()
    ledger = Ledger(home_folder())
    row = runs.get(ledger, name)
    settings = Settings.model_validate(merge(row.settings, row.operational_settings))
    source = None if row.source_run is None else existing_run(row.source_run)
    return RunContext(ledger.home, name, settings, ledger, source)


def require_run(name: str) -> None:
    """End a command for an unknown run before it starts Prefect or makes a ledger.

    Raises:
        RunUnknown: there is no run of this name.
        UsageError: there is no ledger yet.
    """
    ledger = Ledger(home_folder())
    ledger.require()
    runs.status(ledger, name)


def run_name(settings: Settings, name: str | None) -> str:
    """The run's name: the given one, or profile and seed. It becomes a folder of the home.

    Raises:
        UsageError: it cannot be a folder's name, or the home keeps something else under it.
    """
    chosen = f"{settings.profile}-seed{settings.seed}" if name is None else name
    taken = chosen in KEPT_BESIDE_RUNS or chosen.startswith("ledger.")
    if taken or not RUN_NAME.fullmatch(chosen):
        why = "which the home uses itself" if taken else "which cannot be a folder's name everywhere"
        raise UsageError(
            f"Found the run name {chosen[:120]!r}, {why}. Expected 1 to 100 letters, digits, '.', '_' or '-', a "
            "letter or a digit first. Give another one with --run."
        )
    return chosen


@contextmanager
def running(context: RunContext) -> Iterator[None]:
    """Hold the run for this process and record how the block ends: paused, failed, or left to the caller."""
    with holding(context):
        runs.begin(context.ledger, context.name)
        with _recording_the_end(context):
            yield


@contextmanager
def holding(context: RunContext) -> Iterator[None]:
    """Work on a run, alone, with as many threads as it began with, and post what was recorded at the end.

    Raises:
        UsageError: another process works on it.
    """
    with runs.held(context.ledger, context.name):
        try:
            with computing_as_before(runs.get(context.ledger, context.name), context.settings.training.ranks):
                yield
        finally:
            try:
                context.ledger.close()
            except StorageFull as error:  # it is all in the journal
                LOGGER.warning("%s", error)


@contextmanager
def _recording_the_end(context: RunContext) -> Iterator[None]:
    """Record what the block ends with unless it ends well."""
    try:
        yield
    except (RunPaused, KeyboardInterrupt) as pause:
        runs.pause(context.ledger, context.name, str(pause) or "stopped from the keyboard")
        raise
    except Exception as error:
        known = isinstance(error, CycleAlignError)
        runs.fail(context.ledger, context.name, str(error) if known else f"{type(error).__name__}: see the log")
        raise
